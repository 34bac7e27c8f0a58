import numpy as np
import pytest
import torch
from torch import nn

from bnlib.exercises import check


def by_simulation(p=0.5):
    """Let a batch norm of torch meet dropout in training and none afterwards."""
    x = torch.tensor([0.0, 2.0]).repeat(200_000)[:, None].double()  # mean 1, variance 1
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(x.shape, generator=generator) >= p
    norm = nn.BatchNorm1d(1, momentum=1.0, eps=1e-9).double()
    norm(x * kept / (1 - p))
    return float(norm.eval()(x).detach().std(correction=0))


@pytest.mark.parametrize("answer", [0.577, 1 / np.sqrt(3), by_simulation])
def test_dropout_in_eval_mode(answer):
    assert check("dropout-in-eval-mode", answer() if callable(answer) else answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [(1, "keeps only the mean"), (0.7071, "of mean 0 only"), (0.333, "root"), (1.732, "over")],
)
def test_dropout_in_eval_mode_wrong(answer, says):
    assert says in check("dropout-in-eval-mode", answer).message


def by_ratios(before, after, batch_mean):
    return np.median((after - before) / (batch_mean - before))


def by_lengths(before, after, batch_mean):
    return np.linalg.norm(after - before) / np.linalg.norm(batch_mean - before)


def by_a_search(before, after, batch_mean):
    guesses = np.linspace(0, 1, 100_001)[:, None]
    errors = ((1 - guesses) * before + guesses * batch_mean - after) ** 2
    return guesses[errors.sum(1).argmin(), 0]


@pytest.mark.parametrize("answer", [by_ratios, by_lengths, by_a_search])
def test_measured_momentum(answer):
    assert check("measured-momentum", answer)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda b, a, m: np.mean((m - a) / (m - b)), "Keras"),
        (lambda b, a, m: np.dot(a - b, m) / np.dot(m, m), "the distance to it"),
        (lambda b, a, m: np.dot(a, m) / np.sum(m**2), "new running mean"),
    ],
)
def test_measured_momentum_wrong(wrong, says):
    assert says in check("measured-momentum", wrong).message


def by_loops(batches):
    k, m, d = np.shape(batches)
    ratios = []
    for f in range(d):
        means = [sum(batches[i, :, f]) / m for i in range(k)]
        grand = sum(means) / k
        between = sum(m * (mean - grand) ** 2 for mean in means) / (k - 1)
        errors = [(batches[i, j, f] - means[i]) ** 2 for i in range(k) for j in range(m)]
        ratios.append(between / (sum(errors) / (k * m - k)))
    return ratios


def by_scipy(batches):
    from scipy import stats

    return stats.f_oneway(*batches).statistic


def in_torch(batches):
    x = torch.as_tensor(batches)
    return x.shape[1] * x.mean(1).var(0) / x.var(1).mean(0)


@pytest.mark.parametrize("answer", [by_loops, by_scipy, in_torch])
def test_between_and_within(answer):
    assert check("between-and-within", answer)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda x: x.mean(1).var(0, ddof=1) / x.var(1, ddof=1).mean(0), "factor m"),
        (lambda x: 1 / by_scipy(x), "between the means"),
        (lambda x: x.shape[1] * x.mean(1).var(0) / x.var(1).mean(0), "k - 1"),
        (lambda x: by_scipy(x) ** 0.5, "standard deviations"),
    ],
)
def test_between_and_within_wrong(wrong, says):
    assert says in check("between-and-within", wrong).message
