"""How accurate networks are after a number of steps, and how many steps they need to be so."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine import networks, training
from bnlib.experiments.engine.rates import at_rate, best_for_others

CHECKPOINTS = (5, 10, 15, 20, 30, 45, 65, 100, 140, 200, 280, 400, 560, 800, 1120, 1600)
"""Networks are tested after so many steps, and after each budget."""

SPEED_MARGIN = 0.18
"""Decades of steps, a factor of 1.5: a step with BN costs more, so a gain must be larger than
that to matter."""


class Accuracies(NamedTuple):
    """Accuracy in eval mode at each rate, seed and checkpoint; 0 where the run has diverged.

    Attributes
    ----------
    valid, test : ndarray, (r, k, c)
        On the validation examples of each seed, and on the test examples.
    """

    valid: NDArray[np.float64]
    test: NDArray[np.float64]


def checkpoints_of(budgets: tuple[int, ...]) -> tuple[int, ...]:
    """Return those of `CHECKPOINTS` before the last budget, and the budgets, in increasing order.

    Parameters
    ----------
    budgets : tuple of int
        Increasing.

    Returns
    -------
    tuple of int
    """
    return tuple(sorted({*(n for n in CHECKPOINTS if n < budgets[-1]), *budgets}))


def curves(
    config: networks.Config,
    checkpoints: tuple[int, ...],
    build: Callable[[networks.Config], layers.Sequential] = networks.build,
    *,
    progress: bool = False,
) -> Accuracies:
    """Train networks, and test them at checkpoints.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
        With `n_train`, as validation data choose the learning rate.
    checkpoints : tuple of int, c of them
        The last is the number of steps.
    build : callable
        Config -> network.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Accuracies
    """
    every = gcd(*checkpoints)
    scores = training.record_validation_accuracy, training.record_test_accuracy

    def record(state: training.State) -> NDArray[np.floating]:
        if state.step not in checkpoints:
            return np.zeros((state.config.replicas, 2))
        return np.stack([score(state) for score in scores], axis=-1)

    made = training.train(config, {"scores": record}, every=every, progress=progress, build=build)
    found = made.records["scores"][:, [n // every for n in checkpoints]]
    return Accuracies(*np.moveaxis(np.nan_to_num(made.by_rate(found), nan=0.0), -1, 0))


def steps_until(
    accuracies: Accuracies, checkpoints: tuple[int, ...], target: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log10 of the steps until a seed's test accuracy reaches the target, (k,).

    At the rate at which the other seeds' validation accuracy is there first.

    Parameters
    ----------
    accuracies : Accuracies
    checkpoints : tuple of int, c of them
    target : float

    Returns
    -------
    low, high : ndarray, (k,)
        Bounds, as of `steps_to`.
    """
    _, high = steps_to(checkpoints, accuracies.valid, target)
    cost = np.minimum(high, np.log10(checkpoints[-1])) - 1e-6 * accuracies.valid[..., -1]
    rate = best_for_others(cost)
    low, high = (at_rate(bound, rate) for bound in steps_to(checkpoints, accuracies.test, target))
    return low, high


def steps_to(
    checkpoints: tuple[int, ...], accuracy: NDArray[np.floating], target: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log10 of the steps until an accuracy first reaches a target, (...).

    Parameters
    ----------
    checkpoints : tuple of int, c of them
        Increasing numbers of steps.
    accuracy : ndarray, (..., c)
        After these.
    target : float

    Returns
    -------
    low, high : ndarray, (...)
        Bounds, which are equal where it is known, interpolated between checkpoints. There is no
        upper bound where the accuracy does not reach the target, and no lower one where it has at
        the first checkpoint.
    """
    x, y = np.log10(checkpoints), accuracy
    reached = y >= target
    i = np.clip(reached.argmax(axis=-1), min(1, len(x) - 1), None)
    before, there = (np.take_along_axis(y, j[..., None], axis=-1)[..., 0] for j in (i - 1, i))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = x[i - 1] + (target - before) / (there - before) * (x[i] - x[i - 1])
    never, at_once = ~reached.any(axis=-1), reached[..., 0]
    low = np.select([never, at_once], [x[-1], -np.inf], between)
    return low, np.select([never, at_once], [np.inf, x[0]], between)


def powerless(one: NDArray[np.floating], two: NDArray[np.floating], least: float) -> str:
    """Return why the accuracies of two arms cannot tell: neither mean is `least`; else nothing.

    Parameters
    ----------
    one, two : ndarray, (k,)
    least : float

    Returns
    -------
    str
    """
    return "" if max(one.mean(), two.mean()) >= least else "neither arm learns"
