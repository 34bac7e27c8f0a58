"""Batch norm before or after the activation function, each place at its own best learning rate.

For :doc:`/book/placement`. All arms have the same weights, training examples and mini-batches. What
is judged is the accuracy on test examples in eval mode, and the number of steps that it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib._validation import check_increasing
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.learning_curve import (
    SPEED_MARGIN,
    Accuracies,
    checkpoints_of,
    curves,
    powerless,
    steps_until,
)
from bnlib.experiments.engine.rates import at_rate, best_for_others
from bnlib.experiments.engine.replicas import build_norm
from bnlib.experiments.records.verdict import Between, Verdict, check_two_arms, paired_verdict

CLAIMS = {
    "accuracy": "It belongs before the activation function",
    "speed": "Training converges faster with it before the activation function",
}
SOURCE = "Ioffe and Szegedy (2015)"

MARGIN = 0.02
"""Smallest difference of test accuracies that counts, two points.

What Mishkin (2016) found for one of two networks, in favour of the other place: a claim about the
place is about differences like this one. The standard error of a difference of accuracies of 0.95
on the 397 test images of the digits is 0.015.
"""

LEARNED = 0.2
"""Accuracy that one of the arms must reach: twice that of a guess among ten classes."""

PLACES = ("none", "before", "after", "identity before", "identity after")
"""No norm; BN before or after each activation function; its gamma and beta alone, there."""

FACTORS = "the activation function", "the depth", "the number of steps"


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    arms : pair of str
        Control and treatment, of `PLACES`; with "again" behind it, from other seeds.
    others : tuple of str
        Arms that are trained besides.
    activations : tuple of {"relu", "tanh", "sigmoid"}
        Activation functions; ReLU has He's weights, the others have Xavier's.
    depths : tuple of int
        Numbers of hidden layers.
    rates : tuple of float
        Learning rates to choose from, increasing. With steps of half a decade, the best one of a
        place may lie between two of them, which costs the place that is more sensitive more.
    budgets : tuple of int
        Numbers of steps after which the arms are compared, increasing.
    target : float
        Speed is judged by the steps until this share of the test examples is classified right.
    dataset, n_train, redraw, optimizer, momentum, width, batch_size, seeds, first_seed
        As in :class:`bnlib.experiments.engine.networks.Config`. The training examples that are not
        trained on choose the learning rates.
    """

    arms: tuple[str, ...] = ("after", "before")
    others: tuple[str, ...] = ("none", "after again")
    activations: tuple[networks.Activation, ...] = ("relu", "tanh")
    depths: tuple[int, ...] = (2, 4)
    rates: tuple[float, ...] = (0.056, 0.1, 0.18, 0.32, 0.56, 1.0)
    budgets: tuple[int, ...] = (50, 100, 200, 400)
    target: float = 0.9
    dataset: str = "digits"
    n_train: int = 1000
    redraw: bool = True
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    width: int = 32
    batch_size: int = 32
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        check_two_arms(self.arms, "arms")
        networks.check_arms(PLACES, arms=self.arms, others=self.others)
        for name in ("rates", "budgets"):
            check_increasing(name, getattr(self, name))

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The steps after which networks are tested, c of them, in increasing order."""
        return checkpoints_of(self.budgets)


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    curves : mapping of (str, str, int) to Accuracies
        (arm, activation function, depth) -> accuracies.
    """

    config: Config
    curves: Mapping[tuple[str, str, int], Accuracies]

    def rate(self, arm: str, activation: str, depth: int, steps: int) -> NDArray[np.int64]:
        """Index of each seed's learning rate, (k,): the best for the others' validation data."""
        valid = self.curves[arm, activation, depth].valid[..., self._at(steps)]
        return best_for_others(-valid)

    def accuracy(
        self, arm: str, activation: str, depth: int, steps: int, rate: float | None = None
    ) -> NDArray[np.float64]:
        """Test accuracy of each seed after so many steps, (k,); by default at its best `rate`."""
        test = self.curves[arm, activation, depth].test[..., self._at(steps)]
        if rate is not None:
            return test[self.config.rates.index(rate)]
        return at_rate(test, self.rate(arm, activation, depth, steps))

    def steps(self, arm: str, activation: str, depth: int) -> Between:
        """log10 of the steps until a seed's test accuracy reaches the target, (k,).

        At the rate at which the other seeds' validation accuracy is there first.
        """
        measured = self.curves[arm, activation, depth]
        return Between(*steps_until(measured, self.config.checkpoints, self.config.target))

    def _at(self, steps: int) -> int:
        return self.config.checkpoints.index(steps)


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train all arms with every activation function and depth.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar for each.

    Returns
    -------
    Result
        In single precision: the last digits depend on the processor.
    """
    arms = dict.fromkeys((*config.arms, *config.others))
    cases = product(arms, config.activations, config.depths)
    return Result(config, {case: _train(*case, config, progress) for case in cases})


def _train(arm: str, activation: str, depth: int, config: Config, progress: bool) -> Accuracies:
    place, first = networks.arm(arm, config.first_seed)
    trained = networks.Config.of(
        config,
        activation=activation,
        depth=depth,
        init="he" if activation == "relu" else "xavier",
        lr=config.rates,
        steps=config.budgets[-1],
        first_seed=first,
        dtype="float32",
    )
    return curves(trained, config.checkpoints, partial(build, place=place), progress=progress)


def build(config: networks.Config, place: str) -> layers.Sequential:
    """Build plain networks with the norm at a place.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
        Its own `norm` is not used.
    place : str
        One of `PLACES`.

    Returns
    -------
    Sequential
        Hidden linear layers have no bias where beta of the norm takes its part.

    Examples
    --------
    >>> from bnlib.experiments.engine import networks
    >>> build(networks.Config(depth=1, seeds=2), "after")
    Sequential(
      (0): Linear(64, 64, seeds=2)
      (1): ReLU()
      (2): BatchNorm(64, seeds=2)
      (3): Linear(64, 10, seeds=2)
    )
    """
    norm = "none" if place == "none" else "identity" if "identity" in place else "batch"
    dtype = np.dtype(config.dtype)

    def behind(_: int) -> list[layers.Layer]:
        norms = build_norm(norm, config.width, 1, config.replicas, dtype)
        activation = networks.ACTIVATIONS[config.activation]()
        return [*norms, activation] if place.endswith("before") else [activation, *norms]

    return networks.build(config, behind, bias=not place.endswith("before"))


Case = tuple[str, str, str]


def judge(result: Result) -> dict[Case, Verdict]:
    """Judge the claim that BN belongs before the activation function, by the test accuracy.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of (str, str, str) to Verdict
        As `compare`.
    """
    return compare(result, *result.config.arms)


def judge_speed(result: Result) -> dict[Case, Verdict]:
    """Judge whether training converges faster with it there.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of (str, str, str) to Verdict
        As `compare_speed`.
    """
    return compare_speed(result, *result.config.arms)


def compare(
    result: Result, control: str, treatment: str, rate: float | None = None
) -> dict[Case, Verdict]:
    """Judge how much more accurate one arm is than another, after each number of steps.

    Parameters
    ----------
    result : Result
    control, treatment : str
        Arms of the result.
    rate : float, optional
        One of the learning rates, for both arms; by default each has its own best.

    Returns
    -------
    dict of (str, str, str) to Verdict
        By the levels of `FACTORS`. "cannot tell" where neither arm is better than `LEARNED`.
    """
    config, verdicts = result.config, {}
    for activation, depth, steps in product(config.activations, config.depths, config.budgets):
        one, other = (
            result.accuracy(arm, activation, depth, steps, rate) for arm in (treatment, control)
        )
        case = activation, f"depth {depth}", f"{steps} steps"
        verdicts[case] = paired_verdict(
            _claim("accuracy", case),
            SOURCE,
            one,
            other,
            MARGIN,
            powerless=powerless(one, other, LEARNED),
        )
    return verdicts


def compare_speed(result: Result, control: str, treatment: str) -> dict[Case, Verdict]:
    """Judge how much earlier one arm reaches the target than another.

    Parameters
    ----------
    result : Result
    control, treatment : str
        Arms of the result.

    Returns
    -------
    dict of (str, str, str) to Verdict
        By the levels of `FACTORS`, within the last budget. The effect is log10 of the steps of the
        control over those of the treatment; a target that is not reached bounds it.
    """
    config, verdicts = result.config, {}
    for activation, depth in product(config.activations, config.depths):
        one, other = (result.steps(arm, activation, depth) for arm in (treatment, control))
        case = activation, f"depth {depth}", f"{config.budgets[-1]} steps"
        verdicts[case] = paired_verdict(
            _claim("speed", case),
            SOURCE,
            Between(-one.high, -one.low),
            Between(-other.high, -other.low),
            SPEED_MARGIN,
        )
    return verdicts


def _claim(name: str, case: tuple[str, ...]) -> str:
    return f"{CLAIMS[name]}: {', '.join(case)}."
