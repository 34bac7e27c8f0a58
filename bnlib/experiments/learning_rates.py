"""Train over a grid of learning rates, with and without a norm, from good and bad weights.

Which rates train, how fast at the best one, and how much the scale of the first weights matters.
:doc:`/book/learning_rate_and_convergence`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine import networks, rates
from bnlib.experiments.engine.training import record_test_accuracy, train
from bnlib.experiments.records.verdict import Between, Verdict, check_two_arms, paired_verdict

GUESSING = float(np.log(10))
"""Loss of equal probabilities for ten classes. The loss of a mini-batch that is worse, or not
finite, counts as this: such a network has learned nothing."""

TRAINED = GUESSING / 2
"""A network trains at a rate if the mean loss of its last `LAST` mini-batches is at most this."""

TARGET = GUESSING / 4
"""Convergence is counted in steps until the mean loss of `WINDOW` mini-batches is at most this."""

LAST, WINDOW = 20, 10

RATE_MARGIN = 0.3
"""Decades of the largest rate, a factor of 2; more than a step of the default grid."""

SPEED_MARGIN = 0.18
"""Decades of steps, a factor of 1.5: a step with BN costs more, so a gain must be larger than
that to matter."""

SPREAD_MARGIN = 0.3
"""Decades of the final loss, a factor of 2 that the choice of the first weights makes."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of bnlib.experiments.engine.networks.Arm
        Networks to compare, the control first; all have the same weights and mini-batches.
    scales : tuple of float
        Standard deviations of the weights, in units of He's; 1 among them if `judge` is to
        compare initializations.
    rates : tuple of float
        Learning rates, in increasing order.
    depth, width, batch_size, steps : int
        Hidden layers, units in each, examples of a mini-batch, and updates.
    seeds, first_seed : int
        Number of seeds, at least 2, and the first of them.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    scales: tuple[float, ...] = (0.5, 0.71, 1.0, 1.41, 2.0)
    rates: tuple[float, ...] = (
        0.01, 0.018, 0.032, 0.056, 0.1, 0.18, 0.32, 0.56, 1.0, 1.8, 3.2
    )  # fmt: skip
    depth: int = 6
    width: int = 32
    batch_size: int = 32
    steps: int = 200
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        if sorted({*self.rates}) != [*self.rates]:
            raise ValueError(f"rates: expected increasing numbers, got {self.rates}")


@dataclass(frozen=True)
class Result:
    """What `run` measured; n is the norm, s the scale, r the rate, k the seed.

    Attributes
    ----------
    config : Config
    steps : ndarray of int, (n, s, r, k)
        Updates until the loss reached `TARGET`; `config.steps` if it did not, so at least this.
    final : ndarray, (n, s, r, k)
        Mean loss of the last `LAST` mini-batches; each counts as `GUESSING` at most.
    accuracy : ndarray, (n, s, r, k)
        Test accuracy after the last update, in eval mode; 0.1 where the run diverged.
    """

    config: Config
    steps: NDArray[np.int64]
    final: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def largest_rate(self) -> Between:
        """log10 of the largest rate that trains lies between these, (n, s, k).

        The largest of the grid that does, and the next one of the grid; there is no upper bound
        where that is the last, and no lower one where none does.
        """
        grid = np.concatenate([[-np.inf], np.log10(self.config.rates), [np.inf]])
        rank = np.arange(1, len(grid) - 1)[:, None]
        largest = np.where(self.final <= TRAINED, rank, 0).max(axis=2)
        return Between(grid[largest], grid[largest + 1])

    @property
    def best_rate(self) -> NDArray[np.int64]:
        """Index of each seed's rate, (n, s, k), chosen on the training loss of the other seeds.

        The rate has the fewest steps (in the mean of the logarithm); where rates need equally
        many, as none of them reaches the target, the one with the smallest final loss.
        """
        cost = np.log10(self.steps) + 1e-6 * self.final  # (n, s, r, k)
        others = cost.sum(axis=-1, keepdims=True) - cost
        return rates.best(others, axis=2)

    def at_best(self, values: NDArray) -> NDArray:
        """Take (n, s, r, k) at each seed's best rate -> (n, s, k)."""
        return np.take_along_axis(values, self.best_rate[:, :, None], axis=2)[:, :, 0]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train every norm from every scale at every rate; `progress` shows a bar for each."""
    arms = [
        [_train(config, norm, scale, progress) for scale in config.scales] for norm in config.norms
    ]
    return Result(config, *(np.array([[arm[i] for arm in row] for row in arms]) for i in range(3)))


def _train(config: Config, norm: str, scale: float, progress: bool) -> tuple[NDArray, ...]:
    """Return steps, final loss and accuracy, each (r, k)."""
    result = train(
        networks.Config.of(config, norm=norm, init_scale=scale, lr=config.rates, dtype="float32"),
        {"accuracy": record_test_accuracy},
        every=max(config.steps, 1),
        progress=progress,
    )
    loss = np.minimum(np.nan_to_num(result.loss.astype(np.float64), nan=np.inf), GUESSING)
    accuracy = np.nan_to_num(result.records["accuracy"][:, -1], nan=0.1)
    final = loss[:, -LAST:].mean(axis=1)
    return tuple(map(result.by_rate, (steps_to(loss, TARGET), final, accuracy)))


def steps_to(loss: NDArray[np.floating], target: float) -> NDArray[np.int64]:
    """Count the updates until the mean loss of the last mini-batches is at most a target.

    Parameters
    ----------
    loss : ndarray, (k, t + 1)
        Loss before each of t updates, and after the last.
    target : float

    Returns
    -------
    ndarray of int, (k,)
        t if the target is not reached: the true number is at least this.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.experiments.learning_rates import steps_to
    >>> steps_to(np.linspace(3, 0, 31)[None], 1.0)
    array([25])
    """
    means = np.lib.stride_tricks.sliding_window_view(loss, WINDOW, axis=1).mean(axis=-1)
    reached = means <= target
    first = WINDOW - 1 + reached.argmax(axis=1)
    return np.where(reached.any(axis=1), first, loss.shape[1] - 1)


def judge_rates(result: Result) -> dict[str, Verdict]:
    """Judge the claim that the norm allows higher learning rates, for each scale.

    The result is of two norms; a norm and the same again are the negative control. The effect is
    the difference of log10 of the largest rate that trains, which the grid bounds.
    """
    claim, source = "It allows higher learning rates", "Ioffe and Szegedy (2015)"
    return _by_scale(result, claim, source, result.largest_rate, RATE_MARGIN)


def judge_speed(result: Result) -> dict[str, Verdict]:
    """Judge for each scale the claim that training converges faster, each at its own best rate.

    The effect is log10 of the steps without the norm over the steps with it; steps that were not
    enough are a lower bound of those that are.
    """
    claim, source = "Training converges faster", "Ioffe and Szegedy (2015)"
    steps = result.at_best(result.steps)
    most = np.where(steps < result.config.steps, steps, np.inf)
    speed = Between(-np.log10(most), -np.log10(steps))
    return _by_scale(result, claim, source, speed, SPEED_MARGIN)


def judge_initialization(result: Result) -> dict[str, Verdict]:
    """Judge the claim that initialization matters less.

    Parameters
    ----------
    result : Result
        As for `judge_rates`; of several scales with 1 among them.

    Returns
    -------
    dict of str to Verdict
        The effect is how many decades the final losses of the scales lie apart, without the norm
        minus with it: with the rate that was best at scale 1, and with each scale's own best.
    """
    check_two_arms(result.config.norms)
    he = result.config.scales.index(1.0)
    rate = result.best_rate[:, he, None, None]  # (n, 1, 1, k)
    kept = np.take_along_axis(result.final, rate, axis=2)[:, :, 0]
    losses = {"rate tuned at s = 1": kept, "rate tuned at each s": result.at_best(result.final)}
    verdicts = {}
    for case, loss in losses.items():
        control, treatment = np.ptp(np.log10(loss), axis=1)
        claim = f"Initialization matters less, {case}."
        source = "Ioffe and Szegedy (2015)"
        verdicts[case] = paired_verdict(claim, source, control, treatment, SPREAD_MARGIN)
    return verdicts


def judge(result: Result) -> dict[str, Verdict]:
    """Judge all claims, the one on initialization if there are several; keys name the case."""
    judges = {"rates": judge_rates, "speed": judge_speed}
    if len(result.config.scales) > 1:
        judges["initialization"] = judge_initialization
    return {
        f"{name}: {case}": verdict
        for name, judged in judges.items()
        for case, verdict in judged(result).items()
    }


def _by_scale(
    result: Result, claim: str, source: str, values: Between, margin: float
) -> dict[str, Verdict]:
    """Judge the second norm against the first; values are (2, s, k)."""
    check_two_arms(result.config.norms)
    verdicts = {}
    for i, scale in enumerate(result.config.scales):
        control, treatment = (Between(values.low[n, i], values.high[n, i]) for n in (0, 1))
        case = f"depth {result.config.depth}, s = {scale:g}"
        claimed = f"{claim}, {case}."
        verdicts[case] = paired_verdict(claimed, source, treatment, control, margin)
    return verdicts
