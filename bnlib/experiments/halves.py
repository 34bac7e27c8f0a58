"""The two halves of batch norm apart: centring alone, scaling alone, both, and neither.

For :doc:`/book/centring_and_scaling`. All arms have the same weights, training examples and
mini-batches, and all but "none" the same parameters, gamma and beta. Each has its own best learning
rate. What is judged is the number of steps until the test examples are classified right in eval
mode, and the accuracy after a number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

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
from bnlib.experiments.records.verdict import Between, Verdict, check_two_arms, paired_verdict

CLAIMS = {
    "centring": "Its centring makes training faster",
    "scaling": "Its scaling makes training faster",
}
FASTER = "Training converges faster"
ACCURATE = "The test accuracy is higher"
SOURCE = "Ioffe and Szegedy (2015)"

MARGIN = 0.02
"""Smallest difference of test accuracies that counts, as of `placement`: two points."""

LEARNED = 0.2
"""Accuracy that one of the arms must reach: twice that of a guess among ten classes."""

FACTORS = "the half", "the activation function"


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    centring, scaling : pair of str
        Control and treatment: batch norm without and with that half. Arms are norms of
        `networks.Config`, of which "center" and "scale" have one half and "identity" has neither;
        with "again" behind it, from other seeds.
    others : tuple of str
        Arms that are trained besides.
    activations : tuple of {"relu", "tanh", "sigmoid"}
        Activation functions; ReLU has He's weights, the others have Xavier's.
    rates : tuple of float
        Learning rates to choose from, increasing.
    budgets : tuple of int
        Numbers of steps after which accuracies are compared, increasing.
    target : float
        Speed is judged by the steps until this share of the test examples is classified right.
    dataset, n_train, redraw, optimizer, momentum, depth, width, batch_size, seeds, first_seed
        As in :class:`bnlib.experiments.engine.networks.Config`. The training examples that are not
        trained on choose the learning rates.
    """

    centring: tuple[str, ...] = ("scale", "batch")
    scaling: tuple[str, ...] = ("center", "batch")
    others: tuple[str, ...] = ("none", "identity", "batch again")
    activations: tuple[networks.Activation, ...] = ("relu", "sigmoid")
    rates: tuple[float, ...] = (0.056, 0.1, 0.18, 0.32, 0.56, 1.0, 1.8)
    budgets: tuple[int, ...] = (50, 200)
    target: float = 0.75
    dataset: str = "digits"
    n_train: int = 1000
    redraw: bool = True
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    depth: int = 4
    width: int = 32
    batch_size: int = 32
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        for name in CLAIMS:
            check_two_arms(getattr(self, name), name)
        for arm in self.arms:
            if networks.arm(arm)[0] not in networks.NORMS:
                raise ValueError(f"arms: expected some of {networks.NORMS}, got {arm!r}")
        for name in ("rates", "budgets"):
            check_increasing(name, getattr(self, name))

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms, each once."""
        return tuple(dict.fromkeys((*self.centring, *self.scaling, *self.others)))

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The steps after which networks are tested, in increasing order."""
        return checkpoints_of(self.budgets)


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    curves : mapping of (str, str) to Accuracies
        (arm, activation function) -> accuracies.
    """

    config: Config
    curves: Mapping[tuple[str, str], Accuracies]

    def accuracies(self, arm: str, activation: str, steps: int) -> NDArray[np.float64]:
        """Test accuracy after so many steps at each rate and of each seed, (r, k)."""
        return self.curves[arm, activation].test[..., self.config.checkpoints.index(steps)]

    def accuracy(self, arm: str, activation: str, steps: int) -> NDArray[np.float64]:
        """Test accuracy of each seed, (k,), at the rate that is best for the others' validation."""
        valid = self.curves[arm, activation].valid[..., self.config.checkpoints.index(steps)]
        return at_rate(self.accuracies(arm, activation, steps), best_for_others(-valid))

    def steps(self, arm: str, activation: str) -> Between:
        """log10 of the steps of each seed until the target, (k,), at its best rate for this."""
        measured = self.curves[arm, activation]
        return Between(*steps_until(measured, self.config.checkpoints, self.config.target))


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train all arms with every activation function.

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
    cases = product(config.arms, config.activations)
    return Result(config, {case: _train(*case, config, progress) for case in cases})


def _train(arm: str, activation: str, config: Config, progress: bool) -> Accuracies:
    trained = networks.Config.of(
        config,
        norm=arm,
        activation=activation,
        init="he" if activation == "relu" else "xavier",
        lr=config.rates,
        steps=config.budgets[-1],
        dtype="float32",
    )
    return curves(trained, config.checkpoints, progress=progress)


def judge(result: Result) -> dict[tuple[str, str], Verdict]:
    """Judge the claims that each half makes training faster, beside the other half.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of (str, str) to Verdict
        By the levels of `FACTORS`; as `compare_speed`.
    """
    return {
        (half, activation): verdict
        for half, claim in CLAIMS.items()
        for activation, verdict in compare_speed(
            result, *getattr(result.config, half), claim
        ).items()
    }


def judge_centring(result: Result) -> dict[str, Verdict]:
    """Judge as `judge` does, the centring alone, by the activation function."""
    return compare_speed(result, *result.config.centring, CLAIMS["centring"])


def judge_scaling(result: Result) -> dict[str, Verdict]:
    """Judge as `judge` does, the scaling alone, by the activation function."""
    return compare_speed(result, *result.config.scaling, CLAIMS["scaling"])


def compare_speed(
    result: Result, control: str, treatment: str, claim: str = FASTER
) -> dict[str, Verdict]:
    """Judge how much earlier one arm reaches the target than another.

    Parameters
    ----------
    result : Result
    control, treatment : str
        Arms of the result.
    claim : str
        For the verdicts.

    Returns
    -------
    dict of str to Verdict
        By the activation function. The effect is log10 of the steps of the control over those of
        the treatment; a target that is not reached bounds it.
    """
    verdicts = {}
    for activation in result.config.activations:
        one, other = (result.steps(arm, activation) for arm in (treatment, control))
        faster, slower = (Between(-each.high, -each.low) for each in (one, other))
        claimed = f"{claim}: {activation}."
        verdicts[activation] = paired_verdict(claimed, SOURCE, faster, slower, SPEED_MARGIN)
    return verdicts


def compare(result: Result, control: str, treatment: str, steps: int) -> dict[str, Verdict]:
    """Judge how much more accurate one arm is than another after a number of steps.

    Parameters
    ----------
    result : Result
    control, treatment : str
        Arms of the result.
    steps : int
        One of the budgets.

    Returns
    -------
    dict of str to Verdict
        By the activation function. "cannot tell" where neither arm is better than `LEARNED`.
    """
    verdicts = {}
    for activation in result.config.activations:
        one, other = (result.accuracy(arm, activation, steps) for arm in (treatment, control))
        verdicts[activation] = paired_verdict(
            f"{ACCURATE}: {activation}, {steps} steps.",
            SOURCE,
            one,
            other,
            MARGIN,
            powerless=powerless(one, other, LEARNED),
        )
    return verdicts
