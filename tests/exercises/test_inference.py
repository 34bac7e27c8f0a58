import numpy as np
import pytest
import torch

from bnlib.exercises import check
from bnlib.functional import RunningStatistics


@pytest.mark.parametrize("answer", [(6, 4, 2), [6.0, 4.0, 2.0], np.array([[6], [4], [2]])])
def test_eval_by_hand(answer):
    assert check("eval-by-hand", answer)


def test_eval_by_hand_is_the_gradient_of_the_library():
    layer = torch.nn.BatchNorm1d(1, eps=0).eval()
    layer.load_state_dict(
        {name: torch.tensor([v]) for name, v in (("weight", 6.0), ("bias", -3.0))}
        | {"running_mean": torch.tensor([3.0]), "running_var": torch.tensor([4.0])},
        strict=False,
    )
    x = torch.tensor([[7.0]], requires_grad=True)
    gradients = torch.autograd.grad(layer(x), (x, layer.weight, layer.bias), torch.tensor([[2.0]]))
    assert check("eval-by-hand", [g.item() for g in gradients])


def library(mean, var, count, x, momentum):
    running = RunningStatistics(mean, var, count)
    running.update(x.mean(0), x.var(0), n=len(x), momentum=momentum)
    return running.mean, running.var, running.count


def pytorch(mean, var, count, x, momentum):
    layer = torch.nn.BatchNorm1d(x.shape[1], momentum=momentum, dtype=torch.float64)
    layer.running_mean[...], layer.running_var[...] = torch.tensor(mean), torch.tensor(var)
    layer.num_batches_tracked[...] = count
    layer(torch.tensor(x))
    return layer.running_mean, layer.running_var, layer.num_batches_tracked


def loop(mean, var, count, x, momentum):
    count += 1
    a = 1 / count if momentum is None else momentum
    mean, var = mean.copy(), var.copy()
    for j in range(x.shape[1]):
        mu = sum(x[:, j]) / len(x)
        s2 = sum((x_i - mu) ** 2 for x_i in x[:, j]) / (len(x) - 1)
        mean[j] += a * (mu - mean[j])
        var[j] += a * (s2 - var[j])
    return mean, var, count


@pytest.mark.parametrize("answer", [library, pytorch, loop])
def test_update(answer):
    assert check("update", answer)


def keras(mean, var, count, x, momentum):
    running = RunningStatistics(mean, var, count)
    options = {"momentum": momentum, "unbiased": False}
    running.update(x.mean(0), x.var(0), n=len(x), **options)
    return running.mean, running.var, running.count


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (keras, "the biased variance"),
        (
            lambda mean, var, n, x, a: loop(mean, var, n, x, a if a is None else 1 - a),
            "weighs the old value",
        ),
        (
            lambda mean, var, n, x, a: loop(mean, var, n, x, 0.1 if a is None else a),
            "cumulative average",
        ),
        (lambda mean, var, n, x, a: loop(mean, var, n, x, a or 1 / (n + 1)), "momentum 0 for None"),
        (lambda mean, var, n, x, a: loop(mean, var, n, x, 1.0), "nothing is remembered"),
        (lambda mean, var, n, x, a: (*loop(mean, var, n, x, a)[:2], n), "do not count"),
    ],
)
def test_update_wrong(answer, says):
    assert says in check("update", answer).message


def by_library(momentum, moving_variance, m):
    """Let both libraries forget their start, with the same mini-batches."""
    running = RunningStatistics.initial(moving_variance.shape)
    running.update(0 * moving_variance, moving_variance, n=m, momentum=1.0)
    return 1.0 - momentum, running.var


def by_loop(momentum, moving_variance, m):
    return -momentum + 1, [v + v / (m - 1) for v in moving_variance]


def as_list(momentum, moving_variance, m):
    return [1 - momentum, torch.tensor(moving_variance) / (1 - 1 / m)]


@pytest.mark.parametrize("answer", [by_library, by_loop, as_list])
def test_to_torch(answer):
    assert check("to-torch", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a, v, m: (a, v * m / (m - 1)), "kept the momentum"),
        (lambda a, v, m: (1 - a, v - v / m), "the other way round"),
        (lambda a, v, m: [1 - a, v], "kept the variance"),
    ],
)
def test_to_torch_wrong(answer, says):
    assert says in check("to-torch", answer).message
