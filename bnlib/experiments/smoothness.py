"""Measure the loss and the gradient along the gradient during training, over learning rates.

:doc:`/book/learning_rate_and_convergence`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine import networks
from bnlib.experiments.engine.training import State, train
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict
from bnlib.layers import softmax_cross_entropy
from bnlib.measure import gradient_path

MEASURES = ("loss range", "gradient change", "smoothness")

MARGIN = 0.3
"""Decades that count as an effect: a factor of 2 in the range of the loss or in beta."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of bnlib.experiments.engine.networks.Arm
        Networks to compare, the control first; all have the same weights and mini-batches.
    rates : tuple of float
        Learning rates at which the norms are compared.
    best : tuple of float
        For each norm the learning rate that trains it fastest
        (:py:mod:`bnlib.experiments.learning_rates`).
    factors : tuple of float
        Lengths of the steps along the gradient, in units of the learning rate.
    depth, width, batch_size, steps : int
        Hidden layers, units in each, examples of a mini-batch, and updates.
    every : int
        Updates from one measurement to the next.
    seeds, first_seed : int
        Number of seeds, and the first of them.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    rates: tuple[float, ...] = (0.01, 0.032, 0.1)
    best: tuple[float, ...] = (0.1, 0.32)
    factors: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    depth: int = 6
    width: int = 32
    batch_size: int = 32
    steps: int = 200
    every: int = 20
    seeds: int = 16
    first_seed: int = 0

    @property
    def grid(self) -> tuple[float, ...]:
        """All rates at which every norm trains, in increasing order."""
        return tuple(sorted({*self.rates, *self.best}))


@dataclass(frozen=True)
class Result:
    """What `run` measured; n is the norm, r the rate of `grid`, k the seed, t the measurement.

    Attributes
    ----------
    config : Config
    values : ndarray, (n, r, k, t, 3)
        log10 of the `MEASURES`: the range of the loss over the steps along the gradient, the
        largest change of the gradient over them, and the effective smoothness beta. NaN where a
        network has diverged or its gradient is 0.
    """

    config: Config
    values: NDArray[np.float64]

    def mean(self, measure: str) -> NDArray[np.float64]:
        """Average one of the `MEASURES` over the training, (n, r, k); NaN if a time is."""
        return self.values[..., MEASURES.index(measure)].mean(axis=-1)


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
    return Result(config, np.array([_train(config, norm, progress) for norm in config.norms]))


def _train(config: Config, norm: str, progress: bool) -> NDArray[np.float64]:
    plain = networks.Config.of(config, norm=norm, lr=config.grid)

    def record(state: State) -> NDArray[np.float64]:
        rates = np.repeat(config.grid, config.seeds)  # (lanes,)
        steps = np.multiply.outer(config.factors, rates)
        path = gradient_path(state.network, softmax_cross_entropy, state.x, state.labels, steps)
        measures = path.loss_range, path.gradient_change.max(axis=0), path.smoothness
        values = np.log10(np.stack(measures, axis=1))  # (lanes, 3)
        return np.where(np.isfinite(values), values, np.nan)

    result = train(plain, {"path": record}, every=config.every, progress=progress)
    return result.by_rate(result.records["path"])


def judge(result: Result) -> dict[str, Verdict]:
    """Judge the claim that the norm smooths the loss landscape.

    Parameters
    ----------
    result : Result
        Of two norms. A norm and the same again with equal best rates are the negative control.

    Returns
    -------
    dict of str to Verdict
        For the range of the loss and for beta: with both arms at the same of the `rates`, and
        each at its own best. The effect, in decades, is the mean over the training without the
        norm minus that with it.

    Raises
    ------
    ValueError
        If the result is not of two norms, or a network diverged or died at one of these rates.
    """
    config = result.config
    check_two_arms(config.norms)
    pairs = {f"both at {rate:g}": (rate, rate) for rate in config.rates}
    pairs["each at its best"] = config.best
    verdicts = {}
    for measure in ("loss range", "smoothness"):
        values = result.mean(measure)  # (n, r, k)
        for pair, rates in pairs.items():
            at = [config.grid.index(rate) for rate in rates]
            control, treatment = (arm[i] for arm, i in zip(values, at, strict=True))
            case = f"{measure}, {pair}"
            claim = f"It smooths the loss landscape: {case}."
            verdicts[case] = paired_verdict(
                claim, "Santurkar et al. (2018)", control, treatment, MARGIN
            )
    return verdicts
