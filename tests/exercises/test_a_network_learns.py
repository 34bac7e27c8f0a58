import math

import numpy as np
import pytest
import torch

from bnlib.exercises import check


@pytest.mark.parametrize("answer", [6.91, math.log(1000), np.array([3 * math.log(10)])])
def test_first_loss(answer):
    assert check("first-loss", answer)


def test_first_loss_with_a_probability():
    assert "the probability of the true class" in check("first-loss", 1 / 1000).message


def loop(z, y, a):
    m, c = z.shape
    dz = np.empty((m, c))
    for i in range(m):
        total = sum(math.exp(z_j) for z_j in z[i])
        for j in range(c):
            t = a / c + (1 - a if j == y[i] else 0)
            dz[i, j] = (math.exp(z[i, j]) / total - t) / m
    return dz


def classes_first(z, y, a):
    p = np.exp(z.T) / np.exp(z.T).sum(0)
    one_hot = np.equal.outer(np.arange(len(p)), y)
    return ((p - one_hot - a * (1 / len(p) - one_hot)) / len(y)).T


def by_autograd(z, y, a):
    z = torch.tensor(z, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(z, torch.tensor(y), label_smoothing=a)
    return torch.autograd.grad(loss, z)[0]


@pytest.mark.parametrize("answer", [loop, classes_first, by_autograd])
def test_smoothed_gradient(answer):
    assert check("smoothed-gradient", answer)


def of_the_sum(z, y, a):
    z = torch.tensor(z, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(z, torch.tensor(y), label_smoothing=a, reduction="sum")
    return torch.autograd.grad(loss, z)[0]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (of_the_sum, "a mean over the examples"),
        (lambda z, y, a: by_autograd(z, y, 0.0), "did not use a"),
        (lambda z, y, a: -loop(z, y, a), "sign is the wrong one"),
        (lambda z, y, a: loop(z, y, a) / z.shape[1], "number of all scores"),
        (lambda z, y, a: loop(z, y, a) + a / z.size, "gave it to none"),
    ],
)
def test_smoothed_gradient_wrong(answer, says):
    assert says in check("smoothed-gradient", answer).message


def deep_by_autograd(weights, h, delta):
    weights = [torch.tensor(W, requires_grad=True) for W in weights]
    biases = [torch.zeros(len(W), dtype=W.dtype, requires_grad=True) for W in weights]
    output = torch.tensor(h[0])
    for layer, (W, b) in enumerate(zip(weights, biases, strict=True)):
        if layer:  # where the given activations are 0, nothing passes
            output = torch.tensor(h[layer]) + (output - output.detach()) * torch.tensor(
                h[layer] > 0
            )
        output = output @ W + b
    gradients = torch.autograd.grad(output, weights + biases, torch.tensor(delta))
    return gradients[: len(weights)], gradients[len(weights) :]


def deep_by_recursion(weights, h, delta):
    if not weights:
        return [], []
    *earlier, W = weights
    before = (delta @ W.T) * np.sign(h[-1])
    dWs, dbs = deep_by_recursion(earlier, h[:-1], before)
    return [*dWs, np.einsum("mi,mj->ij", h[-1], delta)], [*dbs, np.ones(len(delta)) @ delta]


def deep_by_index(weights, h, delta):
    dW, db = [None] * len(weights), [None] * len(weights)
    for layer in range(len(weights) - 1, -1, -1):
        outer = [np.outer(row, d) for row, d in zip(h[layer], delta, strict=True)]
        dW[layer], db[layer] = sum(outer), sum(delta)
        delta = np.where(h[layer] > 0, delta @ weights[layer].T, 0)
    return dW, db


@pytest.mark.parametrize("answer", [deep_by_autograd, deep_by_recursion, deep_by_index])
def test_backward_deep(answer):
    assert check("backward-deep", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda W, h, delta: deep_by_index(W, [np.ones_like(a) for a in h], delta), "dW:"),
        (
            lambda W, h, delta: [part[::-1] for part in deep_by_recursion(W, h, delta)],
            "the last layer first",
        ),
        (
            lambda W, h, delta: deep_by_recursion([w.T for w in W], h, delta),
            "on the way back it is the transpose",
        ),
    ],
)
def test_backward_deep_wrong(answer, says):
    assert says in check("backward-deep", answer).message
