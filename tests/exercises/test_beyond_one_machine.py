import math

import numpy as np
import pytest
import torch

from bnlib.exercises import check

VALUES = np.array([2 - 6**0.5, 2, 2 + 6**0.5, 6])  # three with mean 2, variance 4, and a 6


@pytest.mark.parametrize(
    "answer", [(3, 6), [VALUES.mean(), VALUES.var()], torch.tensor([[3.0], [6.0]])]
)
def test_merge_by_hand(answer):
    assert check("merge-by-hand", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((VALUES.mean(), VALUES.var(ddof=1)), "N - 1"),
        ((np.mean([2, 6]), np.mean([4, 0])), "plain averages"),
        ((VALUES.mean(), np.average([4, 0], weights=[3, 1])), "the means differ"),
    ],
)
def test_merge_by_hand_wrong(answer, says):
    assert says in check("merge-by-hand", answer).message


def by_logarithm(alpha, k):
    return -math.expm1(math.log1p(-alpha) / k)


def by_numpy(alpha, k):
    return 1 - np.power(1 - alpha, 1 / k)


def by_bisection(alpha, k):
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        left = 1.0
        for _ in range(k):
            left -= middle * left
        low, high = (middle, high) if left > 1 - alpha else (low, middle)
    return low


@pytest.mark.parametrize("answer", [by_logarithm, by_numpy, by_bisection])
def test_accumulation_momentum(answer):
    assert check("accumulation-momentum", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.divide, "first order"),
        (lambda alpha, k: math.exp(math.log(1 - alpha) / k), "the momentum of Keras"),
        (lambda alpha, k: by_logarithm(alpha, 1 / k), "the inverse question"),
    ],
)
def test_accumulation_momentum_wrong(answer, says):
    assert says in check("accumulation-momentum", answer).message


def over_the_mean(counts):
    return counts / np.mean(counts)


def in_a_loop(counts):
    return [len(counts) * count / sum(counts) for count in counts]


def by_least_squares(counts):
    """Solve (1/R) f_r = m_r / m, one equation for each process."""
    return np.linalg.solve(np.eye(len(counts)) / len(counts), counts / counts.sum())


@pytest.mark.parametrize("answer", [over_the_mean, in_a_loop, by_least_squares])
def test_loss_factors(answer):
    assert check("loss-factors", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda counts: [count / sum(counts) for count in counts], "once more"),
        (lambda counts: counts.mean() / counts, "upside down"),
        (lambda counts: [sum(counts) / count for count in counts], "R is missing"),
        (np.ones_like, "equal parts only"),
    ],
)
def test_loss_factors_wrong(answer, says):
    assert says in check("loss-factors", answer).message
