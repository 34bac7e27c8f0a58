import numpy as np
import pytest
import torch

from bnlib.exercises import check


@pytest.mark.parametrize(
    "answer",
    [
        (0.5, -0.5, 0.196, -0.028),
        np.array([0.5, -0.5, 49 / 250, -7 / 250]),
        [1 / 2, -1 / 2, (1 - 0.02) / 5, -0.14 / 5],
    ],
)
def test_two_gradients(answer):
    assert check("two-gradients", answer)


def through(center, scale):
    """Let torch differentiate x_1 of what the halves return."""
    x = torch.tensor([1.0, 7.0], requires_grad=True)
    y = x - x.mean() if center else x
    y = y / (y**2).mean().sqrt() if scale else y
    return torch.autograd.grad(y[0], x)[0].tolist()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (through(True, False) + through(True, True), "what had been centred"),
        ([1, 0, 1 / 5, 0], "for constants"),
        ([0.5, -0.5, 0.98, -0.14], "did not divide"),
        ([0, -1, 0.192, -0.056], "sums in the place"),
    ],
)
def test_two_gradients_wrong(answer, says):
    assert says in check("two-gradients", answer).message


def test_two_gradients_are_those_of_torch():
    assert check("two-gradients", through(True, False) + through(False, True))


def by_torch(dy, x, eps):
    leaf = torch.tensor(x, requires_grad=True)
    y = leaf * torch.rsqrt((leaf**2).mean(0) + eps)
    return torch.autograd.grad(y, leaf, torch.tensor(dy))[0]


def loop(dy, x, eps):
    dx = np.zeros_like(x)
    for j in range(x.shape[1]):
        root = (np.mean(x[:, j] ** 2) + eps) ** 0.5
        along = np.mean(dy[:, j] * x[:, j])
        dx[:, j] = dy[:, j] / root - x[:, j] * along / root**3
    return dx


def matrices(dy, x, eps):
    m = len(x)
    columns = []
    for g, z in zip(dy.T, x.T, strict=True):
        root = np.sqrt(z @ z / m + eps)
        columns.append((np.eye(m) - np.outer(z, z) / (m * root**2)) @ g / root)
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("answer", [by_torch, loop, matrices])
def test_backward_of_the_scaling(answer):
    assert check("backward-of-the-scaling", answer)


def by_norm(dy, x, eps, *, centred):
    """Return the gradient of batch norm; or that of scaling, and its mean left out before."""
    if centred:
        leaf = torch.tensor(x, requires_grad=True)
        y = torch.nn.functional.batch_norm(leaf, None, None, training=True, eps=eps)
        return torch.autograd.grad(y, leaf, torch.tensor(dy))[0]
    return loop(dy, x, eps) - dy.mean(0) / np.sqrt((x**2).mean(0) + eps)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda dy, x, eps: dy / np.sqrt((x**2).mean(0) + eps), "for a constant"),
        (lambda dy, x, eps: loop(dy, x, eps) * np.sqrt((x**2).mean(0) + eps), "forgot to divide"),
        (lambda dy, x, eps: by_norm(dy, x, eps, centred=True), "through the centring"),
        (lambda dy, x, eps: by_norm(dy, x, eps, centred=False), "belongs to the centring"),
        (lambda dy, x, eps: 2 * loop(dy, x, eps), "2 times"),
    ],
)
def test_backward_of_the_scaling_wrong(wrong, says):
    feedback = check("backward-of-the-scaling", wrong)
    assert not feedback
    assert says in feedback.message
