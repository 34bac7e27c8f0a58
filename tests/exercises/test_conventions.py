import numpy as np
import pytest

from bnlib.conventions import convert
from bnlib.exercises import check
from bnlib.functional import RunningStatistics


def by_the_library(**sizes):
    """Convert a Keras layer of one channel with moving variance 6."""
    arrays = {"moving_mean": np.zeros(1), "moving_variance": np.array([6.0])}
    options = {"momentum": 0.99, "epsilon": 1e-3}
    state, options = convert(arrays, options, source="keras", target="pytorch", **sizes)
    return options["momentum"], options["eps"], state["running_var"].item()


@pytest.mark.parametrize(
    "answer",
    [
        (0.01, 1e-3, 6, 8),
        np.array([0.01, 0.001, 6.0, 8.0]),
        (*by_the_library(), by_the_library(m=4, steps=5000)[2]),
    ],
)
def test_from_keras_by_hand(answer):
    assert check("from-keras-by-hand", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([0.99, 1e-3, 6, 8], "copied the momentum"),
        ([1 - 0.99, 1e-5, 6, 8], "the default eps"),
        ([1 - 0.99, 1e-3, 6, 6 * 3 / 4], "divided by m / (m - 1)"),
    ],
)
def test_from_keras_by_hand_wrong(answer, says):
    assert says in check("from-keras-by-hand", answer).message


def absorb_in_a_loop(var, eps, fixed):
    return [v + eps - fixed if v + eps >= fixed else float("nan") for v in var]


def absorb_with_a_mask(var, eps, fixed):
    moved = var + (eps - fixed)
    moved[moved < 0] = np.nan
    return moved


def absorb_by_the_root(var, eps, fixed):
    """Take a root that fails where there is no variance, and square it."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(var + eps - fixed) ** 2


@pytest.mark.parametrize("answer", [absorb_in_a_loop, absorb_with_a_mask, absorb_by_the_root])
def test_absorb(answer):
    assert check("absorb", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda var, eps, fixed: [v + eps - fixed for v in var], "negative variances"),
        (lambda var, eps, fixed: [max(v + eps - fixed, 0) for v in var], "clip at 0"),
        (lambda var, eps, fixed: absorb_with_a_mask(var, fixed, eps), "wrong direction"),
    ],
)
def test_absorb_wrong(answer, says):
    assert says in check("absorb", answer).message


def to_unbiased_in_steps(var, m, momentum, steps):
    """Give each mini-batch the same variance, and run both averages."""
    start = 1.0
    for _ in range(steps):
        start = momentum * start
    each = (var - start) / (1 - start)
    running = RunningStatistics.initial(var.shape)
    for _ in range(steps):
        running.update(0 * var, each, m, momentum, unbiased=True, momentum_weighs="old")
    return running.var


def to_unbiased_by_the_library(var, m, momentum, steps):
    arrays = {"moving_mean": 0 * var, "moving_variance": var}
    options = {"momentum": momentum, "epsilon": 1e-3}
    return convert(arrays, options, source="keras", target="pytorch", m=m, steps=steps)[0][
        "running_var"
    ]


def to_unbiased_as_a_mean(var, m, momentum, steps):
    return (m * var - momentum**steps) / (m - 1)


@pytest.mark.parametrize(
    "answer", [to_unbiased_in_steps, to_unbiased_by_the_library, to_unbiased_as_a_mean]
)
def test_to_unbiased(answer):
    assert check("to-unbiased", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda var, m, momentum, steps: var / (1 - 1 / m), "rescaled the start"),
        (
            lambda *given: to_unbiased_as_a_mean(*given[:2], 1 - given[2], given[3]),
            "weighs the old",
        ),
        (lambda *given: to_unbiased_as_a_mean(*given[:3], 1), "after one step"),
    ],
)
def test_to_unbiased_wrong(answer, says):
    assert says in check("to-unbiased", answer).message
