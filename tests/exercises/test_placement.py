import numpy as np
import pytest
import torch
from torch import nn

from bnlib.exercises import check


@pytest.mark.parametrize(
    "answer",
    [
        (-0.577, -0.577, -0.577, 1.732),
        [-(3**-0.5)] * 3 + [3**0.5],
        np.array([[-1, -1, -1, 3]]).T / 3**0.5,
    ],
)
def test_after_by_hand(answer):
    assert check("after-by-hand", answer)


def before():
    layer = nn.Sequential(nn.BatchNorm1d(1, eps=1e-9), nn.ReLU())
    return layer(torch.tensor([[-2.0], [0.0], [0.0], [2.0]]))


def unbiased():
    x = np.array([0, 0, 0, 2])
    return (x - x.mean()) / x.std(ddof=1)


@pytest.mark.parametrize(
    ("answer", "says"),
    [(before, "normalized first"), (unbiased, "m - 1"), (lambda: 2 * np.eye(4)[3], "stopped")],
)
def test_after_by_hand_wrong(answer, says):
    assert says in check("after-by-hand", answer()).message


def loop(weight, bias, gamma, beta, mean, var, eps):
    weight, bias = weight.copy(), list(bias)
    for o in range(len(weight)):
        for j in range(len(mean)):
            std = (var[j] + eps) ** 0.5
            bias[o] += weight[o, j] * (beta[j] - gamma[j] * mean[j] / std)
            weight[o, j] *= gamma[j] / std
    return weight, bias


def matrix(weight, bias, gamma, beta, mean, var, eps):
    scale = np.diag(gamma * (var + eps) ** -0.5)
    return weight @ scale, bias + weight @ beta - weight @ scale @ mean


def by_probing(weight, bias, *norm):
    """Read the map off what a network of torch makes of zeros and unit vectors."""
    gamma, beta, mean, var, eps = norm
    d = len(gamma)
    bn, linear = nn.BatchNorm1d(d, eps=eps).double().eval(), nn.Linear(d, len(bias)).double()
    bn.weight.data, bn.bias.data = torch.tensor(gamma), torch.tensor(beta)
    bn.running_mean, bn.running_var = torch.tensor(mean), torch.tensor(var)
    linear.weight.data, linear.bias.data = torch.tensor(weight), torch.tensor(bias)
    with torch.no_grad():
        zero, *units = nn.Sequential(bn, linear)(
            torch.eye(d + 1, d, dtype=torch.float64).roll(1, 0)
        )
    return torch.stack([unit - zero for unit in units], dim=1), zero


@pytest.mark.parametrize("answer", [loop, matrix, by_probing])
def test_fold(answer):
    assert check("fold-into-the-next-layer", answer)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda w, b, g, t, m, v, e: loop(w.T, b, g, t, m, v, e), "weight:"),
        (lambda w, b, g, t, m, v, e: loop(w, b, g, t, 0 * m, v, e), "forgot the running mean"),
        (lambda w, b, g, t, m, v, e: (loop(w, b, g, t, m, v, e)[0], b), "forgot what the shift"),
        (lambda w, b, g, t, m, v, e: loop(w, b, g, t, m, (v + e) ** 2, 0), "by the variance"),
    ],
)
def test_fold_wrong(wrong, says):
    assert says in check("fold-into-the-next-layer", wrong).message
