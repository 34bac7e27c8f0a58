"""Train over a grid of learning rates, with and without a norm, from good and bad weights.

Which rates train, how fast at the best one, and how much the scale of the first weights matters,
all judged by the accuracy on test examples in eval mode. The noise that batch norm adds to the loss
of a mini-batch has no part in that.
:doc:`/book/learning_rate_and_convergence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from bnlib._validation import check_increasing
from bnlib.experiments import trainable_depth
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.learning_curve import SPEED_MARGIN, checkpoints_of, steps_to
from bnlib.experiments.engine.rates import best_for_others
from bnlib.experiments.engine.training import State, record_test_accuracy, train
from bnlib.experiments.records.verdict import (
    Between,
    Verdict,
    case_name,
    check_two_arms,
    paired_verdict,
)

SOURCE = "Ioffe and Szegedy (2015)"

TRAINED = trainable_depth.TARGET
"""The share of the digits that a network must classify right to count as trained."""

TARGETS = (0.5, 0.75, 0.9)
"""The shares of the digits until which steps are counted."""

RATE_MARGIN = 0.3
"""Decades of the largest rate, a factor of 2; more than a step of the default grid."""

SHARE_MARGIN = 0.1
"""Share of the networks that train, and of the test examples: one in ten."""

SETTING = "the depth", "the initialization", "the mini-batch", "the optimizer"
RATE_FACTORS = *SETTING, "the number of steps"
SPEED_FACTORS = *SETTING, "the target"
START_FACTORS = "the measure", "the number of steps"
"""What the entries of the keys of `judge_rates`, `judge_speed` and `judge_initialization` are."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of str
        Networks to compare, the control first; all have the same weights and mini-batches.
    scales : tuple of float
        Standard deviations of the weights, in units of He's; 1 among them if `judge` is to
        compare initializations.
    rates : tuple of float
        Learning rates, in increasing order.
    budgets : tuple of int
        Numbers of steps after which the networks are compared, in increasing order.
    trained : float
        A network trains at a rate if it classifies this share of the test examples right.
    targets : tuple of float
        Convergence is counted in steps until this share of the test examples is classified right.
    dataset, activation, optimizer, momentum, depth, width, batch_size
        As in `networks.Config`.
    seeds, first_seed : int
        Number of seeds, at least 2, and the first of them.

    Raises
    ------
    ValueError
        If rates or budgets do not increase, or there are none.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    scales: tuple[float, ...] = (1.0,)
    rates: tuple[float, ...] = (0.056, 0.1, 0.18, 0.32, 0.56, 1.8, 3.2)
    budgets: tuple[int, ...] = (200, 400, 800)
    trained: float = TRAINED
    targets: tuple[float, ...] = TARGETS
    dataset: str = "digits"
    activation: networks.Activation = "relu"
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    depth: int = 6
    width: int = 32
    batch_size: int = 32
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rates", "budgets"):
            check_increasing(name, getattr(self, name))

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The steps after which networks are tested, c of them, in increasing order."""
        return checkpoints_of(self.budgets)


@dataclass(frozen=True)
class Result:
    """What `run` measured; n is the norm, s the scale, r the rate, k the seed, c the checkpoint.

    Attributes
    ----------
    config : Config
    accuracy : ndarray, (n, s, r, k, c)
        Share of the test examples that are classified right in eval mode; 0 where the run has
        diverged.
    """

    config: Config
    accuracy: NDArray[np.float64]

    def after(self, steps: int) -> NDArray[np.float64]:
        """Accuracy after one of the `config.checkpoints`, (n, s, r, k)."""
        return self.accuracy[..., self.config.checkpoints.index(steps)]

    def largest_rate(self, steps: int) -> Between:
        """log10 of the largest rate that trains in so many steps lies between these, (n, s, k).

        The largest of the grid that does, and the next one of the grid; there is no upper bound
        where that is the last, and no lower one where none does.
        """
        grid = np.concatenate([[-np.inf], np.log10(self.config.rates), [np.inf]])
        rank = np.arange(1, len(grid) - 1)[:, None]
        largest = np.where(self.after(steps) >= self.config.trained, rank, 0).max(axis=2)
        return Between(grid[largest], grid[largest + 1])

    def steps_to(self, target: float) -> Between:
        """log10 of the steps until the accuracy first reaches a target, (n, s, r, k).

        Interpolated between checkpoints. There is no upper bound where it does not within the last
        budget, and no lower one where it has at the first checkpoint.
        """
        return Between(*steps_to(self.config.checkpoints, self.accuracy, target))

    def fastest(self, target: float) -> Between:
        """Take `steps_to` at the best rate for this target, (n, s, k)."""
        steps = self.steps_to(target)
        last = np.log10(self.config.budgets[-1])
        best = best_for_others(np.minimum(steps.high, last) - 1e-6 * self.accuracy[..., -1])
        return Between(*(_at(bound, best) for bound in steps))

    def best_after(self, steps: int) -> NDArray[np.float64]:
        """Accuracy after one of the checkpoints, at the rate that is best there, (n, s, k)."""
        accuracy = self.after(steps)
        return _at(accuracy, best_for_others(-accuracy))


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train every norm from every scale at every rate; `progress` shows a bar for each."""
    arms = [
        [_train(config, norm, scale, progress) for scale in config.scales] for norm in config.norms
    ]
    return Result(config, np.array(arms))


def _train(config: Config, norm: str, scale: float, progress: bool) -> NDArray[np.float64]:
    """Return the accuracy, (r, k, c)."""
    every = gcd(*config.checkpoints)

    def record(state: State) -> NDArray[np.floating]:
        if state.step in config.checkpoints:
            return record_test_accuracy(state)
        return np.zeros(state.config.replicas)

    result = train(
        networks.Config.of(
            config,
            norm=norm,
            init_scale=scale,
            lr=config.rates,
            steps=config.budgets[-1],
            dtype="float32",
        ),
        {"accuracy": record},
        every=every,
        progress=progress,
    )
    accuracy = result.records["accuracy"][:, [n // every for n in config.checkpoints]]
    return np.nan_to_num(result.by_rate(accuracy), nan=0.0)


def _at(values: NDArray, rate: NDArray[np.int64]) -> NDArray:
    """Take (n, s, r, k) at a rate for each seed, (n, s, k)."""
    return np.take_along_axis(values, rate[:, :, None], axis=2)[:, :, 0]


def check(config: Config) -> None:
    """Raise ValueError if it cannot be judged: not two norms, or several scales without 1."""
    check_two_arms(config.norms)
    if len(config.scales) > 1 and 1.0 not in config.scales:
        raise ValueError(f"scales: expected 1 among them, got {config.scales}")


def judge_rates(result: Result) -> dict[tuple[str, ...], Verdict]:
    """Judge the claim that the norm allows higher learning rates, for each scale and budget.

    The result is of two norms; a norm and the same again are the negative control. The effect is
    the difference of log10 of the largest rate that trains, which the grid bounds. The entries of
    the keys are levels of `RATE_FACTORS`.
    """
    verdicts = {}
    for steps in result.config.budgets:
        claim = "It allows higher learning rates"
        largest = result.largest_rate(steps)
        verdicts |= _by_scale(result.config, claim, f"{steps} steps", largest, RATE_MARGIN)
    return verdicts


def judge_speed(result: Result) -> dict[tuple[str, ...], Verdict]:
    """Judge for each scale and target the claim that training converges faster.

    Each arm has its own best rate. The effect is log10 of the steps without the norm over the steps
    with it; steps that were not enough are a lower bound of those that are. The entries of the keys
    are levels of `SPEED_FACTORS`.
    """
    verdicts = {}
    for target in result.config.targets:
        low, high = result.fastest(target)
        claim, speed = "Training converges faster", Between(-high, -low)
        verdicts |= _by_scale(result.config, claim, f"{100 * target:g} %", speed, SPEED_MARGIN)
    return verdicts


def judge_initialization(result: Result) -> dict[tuple[str, str], Verdict]:
    """Judge the claim that initialization matters less.

    Parameters
    ----------
    result : Result
        As for `judge_rates`; of several scales with 1 among them.

    Returns
    -------
    dict of (str, str) to Verdict
        By the levels of `START_FACTORS`. Of the pairs of a scale and a rate, the share that trains,
        with the norm minus without it; and how far the test accuracies of the scales lie apart,
        without the norm minus with it: with the rate that was best at scale 1, and with each
        scale's own best.
    """
    check(result.config)
    he = result.config.scales.index(1.0)
    verdicts = {}
    for steps in result.config.budgets:
        accuracy = result.after(steps)
        best = best_for_others(-accuracy)
        kept = _at(accuracy, np.broadcast_to(best[:, he, None], best.shape))
        measures = {
            "share of scales and rates that train": (accuracy >= result.config.trained).mean(
                axis=(1, 2)
            ),
            "accuracy, rate tuned at s = 1": -np.ptp(kept, axis=1),
            "accuracy, rate tuned at each s": -np.ptp(_at(accuracy, best), axis=1),
        }
        for measure, (control, treatment) in measures.items():
            case = measure, f"{steps} steps"
            verdicts[case] = paired_verdict(
                f"Initialization matters less: {case_name(case)}.",
                SOURCE,
                treatment,
                control,
                SHARE_MARGIN,
            )
    return verdicts


def judge(result: Result) -> dict[tuple[str, ...], Verdict]:
    """Judge all claims, the one on initialization if there are several; keys name the case."""
    judges = {"rates": judge_rates, "speed": judge_speed}
    if len(result.config.scales) > 1:
        judges["initialization"] = judge_initialization
    return {
        (name, *case): verdict
        for name, judged in judges.items()
        for case, verdict in judged(result).items()
    }


def _by_scale(
    config: Config, claim: str, level: str, values: Between, margin: float
) -> dict[tuple[str, ...], Verdict]:
    """Judge the second norm against the first for each scale; values are (2, s, k)."""
    verdicts = {}
    for i, setting in enumerate(_settings(config)):
        case = *setting, level
        control, treatment = (values.at(norm, i) for norm in (0, 1))
        claimed = f"{claim}: {case_name(case)}."
        verdicts[case] = paired_verdict(claimed, SOURCE, treatment, control, margin)
    return verdicts


def _settings(config: Config) -> list[tuple[str, str, str, str]]:
    """Name the levels of `SETTING` for each scale."""
    check_two_arms(config.norms)
    optimizer = {"sgd": "SGD", "adam": "Adam"}[config.optimizer]
    return [
        (
            f"depth {config.depth}",
            f"s = {scale:g}",
            f"mini-batches of {config.batch_size}",
            optimizer,
        )
        for scale in config.scales
    ]
