"""The generalization gap over the size of the mini-batch, at equal steps and at equal epochs.

For :doc:`/book/regularization`. Each arm has the learning rate that is best for it on validation
data.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine import networks, rates, training
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

SOURCE = "Hoffer et al. (2017)"
MARGIN = 0.05
"""Smallest change of the gap that counts: the true class gets 5 % more probability."""

REGIMES = ("equal steps", "equal epochs")
SCORED = 1000  # examples of each part, at most


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : pair of str
        Control and treatment.
    sizes : tuple of int
        Sizes of the mini-batch, each a divisor of `n_train`, rising.
    steps, epochs : int
        After so many steps, and after so many epochs, the networks are scored.
    dataset, n_train, depth, width, momentum, seeds, first_seed
        As in :class:`bnlib.experiments.engine.networks.Config`.
    rates : tuple of float
        Learning rates to choose from.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    sizes: tuple[int, ...] = (8, 32, 128)
    steps: int = 128
    epochs: int = 4
    dataset: str = "mnist1d"
    n_train: int = 1024
    depth: int = 2
    width: int = 64
    rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    momentum: float = 0.9
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        check_two_arms(self.norms)
        if any(self.n_train % size for size in self.sizes) or list(self.sizes) != sorted(
            self.sizes
        ):
            raise ValueError(f"sizes: expected rising divisors of n_train, got {self.sizes}")


class Losses(NamedTuple):
    """Cross-entropies at the chosen learning rates, each (sizes, k)."""

    lr: NDArray[np.float64]  # (sizes,)
    train: NDArray[np.float64]
    test: NDArray[np.float64]

    @property
    def gap(self) -> NDArray[np.float64]:
        """The generalization gap."""
        return self.test - self.train


@dataclass(frozen=True)
class Result:
    """What `run` measured: `losses` maps (norm, regime) to `Losses`."""

    config: Config
    losses: dict[tuple[str, str], Losses]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train every norm with every size of the mini-batch.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result
        The same for the same config.
    """
    losses = {}
    for norm in dict.fromkeys(config.norms):
        runs = [_train(norm, size, config, progress) for size in config.sizes]
        for i, regime in enumerate(REGIMES):
            columns = (np.array(column) for column in zip(*(each[i] for each in runs), strict=True))
            losses[norm, regime] = Losses(*columns)
    return Result(config, losses)


def _train(
    norm: str, size: int, config: Config, progress: bool
) -> list[tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
    """Train one arm; for each regime the chosen rate, and the losses of training and test, (k,)."""
    ends = config.steps, config.epochs * config.n_train // size
    trained = networks.Config.of(
        config,
        norm=norm,
        batch_size=size,
        steps=max(ends),
        lr=config.rates,
        dtype="float32",
    )
    every = gcd(*ends)

    def score(state: training.State) -> NDArray[np.floating]:
        if state.step not in ends:
            return np.full((trained.replicas, 3), np.nan)
        return np.stack([_loss(state, part) for part in ("valid", "train", "test")], axis=-1)

    result = training.train(trained, {"loss": score}, every=every, progress=progress)
    by_rate = result.by_rate(result.records["loss"])  # (rates, k, t, 3)
    chosen = []
    for end in ends:
        valid, train, test = np.moveaxis(by_rate[:, :, end // every], -1, 0)
        best = int(rates.best(valid.mean(axis=1)))
        chosen.append((config.rates[best], train[best], test[best]))
    return chosen


def _loss(state: training.State, part: str) -> NDArray[np.floating]:
    x, y = (getattr(state.data, f"{name}_{part}")[:SCORED] for name in "xy")
    return layers.softmax_cross_entropy(training.predict(state, x), y)[0]


def judge(result: Result) -> dict[str, Verdict]:
    """Judge whether BN makes the generalization gap grow with the size of the mini-batch.

    Parameters
    ----------
    result : Result
        With the second norm the first one again, it is the negative control.

    Returns
    -------
    dict of str to Verdict
        By regime. The gap is the test cross-entropy minus that of training, and its growth that
        from the smallest to the largest mini-batch. The effect is the growth with the second norm
        minus the growth with the first, which has no noise of the statistics to lose.
    """
    verdicts = {}
    for regime in REGIMES:
        control, treatment = (
            result.losses[norm, regime].gap[-1] - result.losses[norm, regime].gap[0]
            for norm in result.config.norms
        )
        claim = f"With BN the generalization gap grows more with the mini-batch, at {regime}."
        verdicts[regime] = paired_verdict(claim, SOURCE, treatment, control, MARGIN)
    return verdicts
