import math

import numpy as np
import pytest
import torch
from torch import nn

from bnlib.exercises import check


def counted():
    left, passes = 1.0, 0
    while left >= 0.01:
        left, passes = left * 0.9, passes + 1
    return passes


@pytest.mark.parametrize("answer", [44, math.ceil(math.log(0.01, 0.9)), counted()])
def test_passes_until_forgotten(answer):
    assert check("passes-until-forgotten", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (int(math.log(0.01) / math.log(0.9)), "rounded down"),
        (math.ceil(math.log10(100)), "as Keras writes it"),
        (round(1 / 0.1), "added the weights"),
        (math.ceil(math.log(0.1, 0.9)), "less than 10 %"),
        (math.ceil(math.log(0.01, 0.99)), "default momentum of Keras"),
    ],
)
def test_passes_until_forgotten_wrong(answer, says):
    assert says in check("passes-until-forgotten", answer).message


def loop(gamma, beta, mean, var, new_mean, new_var, eps):
    slopes, values = [], []
    for g, b, m, v, new_m, new_v in zip(gamma, beta, mean, var, new_mean, new_var, strict=True):
        slope = g / math.sqrt(v + eps)
        slopes.append(slope * math.sqrt(new_v + eps))
        values.append(b + slope * (new_m - m))
    return slopes, values


def by_folding(gamma, beta, mean, var, new_mean, new_var, eps):
    """Write the old layer as s x + t, and the new one as that of what it normalizes."""
    s = gamma * (var + eps) ** -0.5
    t = beta - s * mean
    return s * (new_var + eps) ** 0.5, t + s * new_mean


def by_probing(gamma, beta, mean, var, new_mean, new_var, eps):
    """Read the line off what the old layer of torch makes of two inputs."""
    layer = nn.BatchNorm1d(len(gamma), eps=eps).double().eval()
    layer.weight.data, layer.bias.data = torch.tensor(gamma), torch.tensor(beta)
    layer.running_mean, layer.running_var = torch.tensor(mean), torch.tensor(var)
    deviation = np.sqrt(new_var + eps)
    with torch.no_grad():
        at_mean, above = layer(torch.tensor(np.stack([new_mean, new_mean + deviation])))
    return above - at_mean, at_mean


@pytest.mark.parametrize("answer", [loop, by_folding, by_probing])
def test_undo(answer):
    assert check("undo-new-statistics", answer)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda g, b, m, v, n, w, e: loop(g, b, n, w, m, v, e), "other way"),
        (lambda g, b, m, v, n, w, e: (loop(g, b, m, v, n, w, e)[0], b), "not that of the mean"),
        (lambda g, b, m, v, n, w, e: loop(g, b, m, v, 2 * m - n, w, e), "sign of the shift"),
        (
            lambda g, b, m, v, n, w, e: loop(g, b, m, (v + e) ** 2, n, (w + e) ** 2, 0),
            "took variances",
        ),
        (
            lambda g, b, m, v, n, w, e: (
                loop(g, b, m, v, n, w, e)[0],
                loop(g / g, b, m, v, n, w, e)[1],
            ),
            "gamma scales the shift",
        ),
        (
            lambda g, b, m, v, n, w, e: (  # solved for the square of gamma
                np.sqrt(np.square(loop(g, b, m, v, n, w, e)[0])),
                loop(g, b, m, v, n, w, e)[1],
            ),
            "sign of gamma",
        ),
    ],
)
def test_undo_wrong(wrong, says):
    feedback = check("undo-new-statistics", wrong)
    assert not feedback
    assert says in feedback.message
