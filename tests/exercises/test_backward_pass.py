import numpy as np
import pytest
import torch

from bnlib.exercises import check
from bnlib.functional import batch_norm_backward, batch_norm_forward


def library(dy, x, gamma, eps):
    return batch_norm_backward(dy, batch_norm_forward(x, gamma, 0 * gamma, eps=eps)[1])


def loop(dy, x, gamma, eps):
    m, d = x.shape
    dx, dgamma, dbeta = np.zeros((m, d)), np.zeros(d), np.zeros(d)
    for j in range(d):
        mean = x[:, j].sum() / m
        s = 1 / np.sqrt(((x[:, j] - mean) ** 2).sum() / m + eps)
        for i in range(m):
            x_hat = (x[i, j] - mean) * s
            dbeta[j] += dy[i, j]
            dgamma[j] += dy[i, j] * x_hat
        for i in range(m):
            x_hat = (x[i, j] - mean) * s
            dx[i, j] = gamma[j] * s * (dy[i, j] - dbeta[j] / m - x_hat * dgamma[j] / m)
    return dx, dgamma, dbeta


def by_autograd(dy, x, gamma, eps):
    x, gamma = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
    beta = torch.zeros_like(gamma, requires_grad=True)
    y = torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)
    return torch.autograd.grad(y, (x, gamma, beta), torch.tensor(dy))


@pytest.mark.parametrize("answer", [library, loop, by_autograd])
def test_backward(answer):
    assert check("backward", answer)


def test_statistics_that_are_detached():
    def answer(dy, x, gamma, eps):
        x, gamma = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
        beta = torch.zeros_like(gamma, requires_grad=True)
        mean, var = x.mean(0).detach(), x.var(0, correction=0).detach()
        y = gamma * (x - mean) / (var + eps).sqrt() + beta
        return torch.autograd.grad(y, (x, gamma, beta), torch.tensor(dy))

    assert "detached" in check("backward", answer).message


def test_a_mean_that_is_detached():
    def answer(dy, x, gamma, eps):
        x, gamma = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
        beta = torch.zeros_like(gamma, requires_grad=True)
        var = x.var(0, correction=0)
        y = gamma * (x - x.mean(0).detach()) / (var + eps).sqrt() + beta
        return torch.autograd.grad(y, (x, gamma, beta), torch.tensor(dy))

    assert "path through the mean" in check("backward", answer).message


def rms_by_autograd(dy, x, eps):
    x = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.rms_norm(x, (x.shape[1],), eps=eps)
    return torch.autograd.grad(y, x, torch.tensor(dy))[0]


def rms_loop(dy, x, eps):
    dx = np.zeros_like(x)
    for i, (g, row) in enumerate(zip(dy, x, strict=True)):
        s = (sum(row * row) / len(row) + eps) ** -0.5
        dx[i] = s * g - s**3 * row * sum(g * row) / len(row)
    return dx


def rms_features_first(dy, x, eps):
    dy, x = dy.T, x.T
    s = 1 / np.sqrt((x**2).mean(0) + eps)
    return (s * (dy - s**2 * x * (dy * x).mean(0))).T


@pytest.mark.parametrize("answer", [rms_by_autograd, rms_loop, rms_features_first])
def test_rms_backward(answer):
    assert check("rms-backward", answer)


def rms_detached(dy, x, eps):
    x = torch.tensor(x, requires_grad=True)
    y = x / (x.detach() ** 2).mean(1, keepdim=True).add(eps).sqrt()
    return torch.autograd.grad(y, x, torch.tensor(dy))[0]


def rms_over_examples(dy, x, eps):
    x = torch.tensor(x, requires_grad=True)
    y = x / ((x**2).mean(0) + eps).sqrt()
    return torch.autograd.grad(y, x, torch.tensor(dy))[0]


@pytest.mark.parametrize(
    ("answer", "says"),
    [(rms_detached, "s for a constant"), (rms_over_examples, "over the mini-batch")],
)
def test_rms_backward_wrong(answer, says):
    assert says in check("rms-backward", answer).message


@pytest.mark.parametrize("answer", [(-0.5, 0.5, -1.5, 1.5), np.array([[-0.5, 0.5, -1.5, 1.5]])])
def test_backward_by_hand(answer):
    assert check("backward-by-hand", answer)


@pytest.mark.parametrize(
    ("dx", "says"),
    [
        (np.array([1, 2, 3, 6]) - 3, "path through the variance"),
        (np.array([1, 2, 3, 6]), "for constants"),
    ],
)
def test_backward_by_hand_wrong(dx, says):
    assert says in check("backward-by-hand", dx).message
