"""Measure the loss and the gradient along the gradient, over the training and over learning rates.

The effect is judged at the start, at the end, and where both networks have the same loss.
:doc:`/book/learning_rate_and_convergence`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine import networks
from bnlib.experiments.engine.training import State, train
from bnlib.experiments.records.verdict import Verdict, case_name, check_two_arms, paired_verdict
from bnlib.layers import softmax_cross_entropy
from bnlib.measure import gradient_path

MEASURES = ("loss range", "gradient change", "smoothness")

FACTORS = "the measure", "the learning rate", "the time in training"
"""What the entries of the keys of `judge` are."""

LATE = 0.75
"""The end of the training are the records after this share of the steps."""

WINDOW = 10
"""The loss at a record is the mean of so many mini-batches, this one the last of them."""

LOSS, BANDWIDTH = 1.0, 0.25
"""At equal loss: each record counts by how near its loss is to `LOSS`, with the weight of a normal
density of the logarithm of the loss."""

MARGIN = 0.3
"""Decades that count as an effect: a factor of 2 in the range of the loss or in beta."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of str
        Networks to compare, the control first; all have the same weights and mini-batches.
    rates : tuple of float
        Learning rates at which the norms are compared.
    best : tuple of float
        For each norm the learning rate that trains it fastest to the middle of the targets
        (:py:mod:`bnlib.experiments.learning_rates`); if empty, only equal rates are compared.
    factors : tuple of float
        Lengths of the steps along the gradient, in units of the learning rate.
    dataset, activation, optimizer, momentum, depth, width, batch_size, steps
        As in `networks.Config`. Lengths along the gradient are those of plain SGD.
    every : int
        Updates from one measurement to the next.
    seeds, first_seed : int
        Number of seeds, and the first of them.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    rates: tuple[float, ...] = (0.01, 0.1)
    best: tuple[float, ...] = (0.1, 0.56)
    factors: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    dataset: str = "digits"
    activation: networks.Activation = "relu"
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    depth: int = 6
    width: int = 32
    batch_size: int = 32
    steps: int = 600
    every: int = 30
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.best and len(self.best) != len(self.norms):
            raise ValueError(
                f"best: expected none, or a rate for each of {self.norms}, got {self.best}"
            )

    @property
    def grid(self) -> tuple[float, ...]:
        """All rates at which every norm trains, in increasing order."""
        return tuple(sorted({*self.rates, *self.best}))


@dataclass(frozen=True)
class Result:
    """What `run` measured; n is the norm, r the rate of `grid`, k the seed, t the record.

    Attributes
    ----------
    config : Config
    values : ndarray, (n, r, k, t, 3)
        log10 of the `MEASURES`: the range of the loss over the steps along the gradient, the
        largest change of the gradient over them, and the effective smoothness beta. NaN where a
        network has diverged or its gradient is 0.
    loss : ndarray, (n, r, k, t)
        Mean loss of the last `WINDOW` mini-batches; NaN where a network has diverged.
    """

    config: Config
    values: NDArray[np.float64]
    loss: NDArray[np.float64]

    @property
    def steps(self) -> NDArray[np.int64]:
        """Updates before each record, (t,)."""
        return np.arange(0, self.config.steps + 1, self.config.every)

    def of(self, measure: str) -> NDArray[np.float64]:
        """Take one of the `MEASURES`, (n, r, k, t)."""
        return self.values[..., MEASURES.index(measure)]

    def late(self, measure: str) -> NDArray[np.float64]:
        """Average one of the `MEASURES` over the end of the training, (n, r, k)."""
        return self.of(measure)[..., self.steps > LATE * self.config.steps].mean(axis=-1)


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train every norm at every rate, and measure along the gradient.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar for each norm.

    Returns
    -------
    Result
    """
    arms = [_train(config, norm, progress) for norm in config.norms]
    return Result(config, *(np.array([arm[i] for arm in arms]) for i in range(2)))


def _train(
    config: Config, norm: str, progress: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the measures, (r, k, t, 3), and the loss, (r, k, t)."""
    plain = networks.Config.of(config, norm=norm, lr=config.grid, dtype="float32")

    def record(state: State) -> NDArray[np.float64]:
        rates = np.repeat(config.grid, config.seeds)  # (replicas,)
        steps = np.multiply.outer(config.factors, rates)
        path = gradient_path(state.network, softmax_cross_entropy, state.x, state.labels, steps)
        measures = path.loss_range, path.gradient_change.max(axis=0), path.smoothness
        values = np.log10(np.stack(measures, axis=1))  # (replicas, 3)
        return np.where(np.isfinite(values), values, np.nan)

    result = train(plain, {"path": record}, every=config.every, progress=progress)
    loss = [result.loss[:, max(0, t - WINDOW + 1) : t + 1].mean(axis=1) for t in result.steps]
    return result.by_rate(result.records["path"]), result.by_rate(np.stack(loss, axis=1))


def check(config: Config) -> None:
    """Raise ValueError if it cannot be judged: not two norms, or no record near the end."""
    check_two_arms(config.norms)
    if config.steps // config.every * config.every <= LATE * config.steps:
        raise ValueError(f"every: expected a record in the last quarter, got {config.every}")


def judge(result: Result) -> dict[tuple[str, str, str], Verdict]:
    """Judge the claim that the norm smooths the loss landscape.

    Parameters
    ----------
    result : Result
        Of two norms. A norm and the same again with equal best rates are the negative control.

    Returns
    -------
    dict of (str, str, str) to Verdict
        By the levels of `FACTORS`: the range of the loss and beta; with both arms at the same of
        the `rates`, and each at its own best; at step 0, over the end of the training, and where
        the loss is about `LOSS`. The effect, in decades, is without the norm minus with it.

        It cannot tell at equal loss where the records of an arm are all far from it.

    Raises
    ------
    ValueError
        As `check`, or if a network diverged or died at one of these rates.
    """
    config = result.config
    check(config)
    pairs = {f"both at {rate:g}": (rate, rate) for rate in config.rates}
    if config.best:
        pairs["each at its best"] = config.best
    verdicts = {}
    for measure in ("loss range", "smoothness"):
        values, late = result.of(measure), result.late(measure)
        for pair, rates in pairs.items():
            arms = (0, 1), [config.grid.index(rate) for rate in rates]
            times = {
                "at the start": values[arms][..., 0],
                "at the end": late[arms],
                "at equal loss": _at_loss(values[arms], result.loss[arms]),
            }
            for time, (control, treatment) in times.items():
                case = measure, pair, time
                missed = time == "at equal loss" and _gap(result.loss[arms]) > BANDWIDTH
                claim = f"It smooths the loss landscape: {case_name(case)}."
                verdicts[case] = paired_verdict(
                    claim,
                    "Santurkar et al. (2018)",
                    control,
                    treatment,
                    MARGIN,
                    powerless="an arm was not measured near that loss" if missed else "",
                )
    return verdicts


def _gap(loss: NDArray[np.float64]) -> float:
    """Return how far, as a logarithm, the loss (n, k, t) is from `LOSS` in the worse arm."""
    return float(np.abs(_at_loss(np.log(loss / LOSS), loss).mean(axis=-1)).max())


def _at_loss(values: NDArray[np.float64], loss: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average values over the records whose loss is about `LOSS`, (..., t) -> (...)."""
    weights = np.exp(-0.5 * np.square(np.log(loss / LOSS) / BANDWIDTH))
    return (weights * values).sum(axis=-1) / weights.sum(axis=-1)
