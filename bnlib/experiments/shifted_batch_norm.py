r"""Batch norm with a shift injected after it, against no norm.

After Santurkar et al. (2018). At each step every unit of every layer gets another shift and
scale, so that the input of the next layer is not stable any more.
:doc:`/book/internal_covariate_shift`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine import networks, rates, training
from bnlib.experiments.engine.drift import MARGIN as SHIFT_MARGIN
from bnlib.experiments.engine.drift import record_distance
from bnlib.experiments.records.verdict import Between, Verdict, check_two_arms, paired_verdict
from bnlib.layers import RandomShift, ReLU, Sequential
from bnlib.layers.random_shift import SCALE, SHIFT

CLAIM = "The network whose layers see more shift trains more slowly."
SOURCE = "Ioffe and Szegedy (2015), as tested by Santurkar et al. (2018)"

GUESSING = float(np.log(10))
"""Loss of equal probabilities for ten classes; that of a network that diverges is at least this."""

MARGIN = 0.1
"""Difference of training losses that counts, in nats.

About 4 % of `GUESSING`.
"""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of bnlib.experiments.engine.networks.Arm
        What is compared, the control first.
    strengths : tuple of float
        How strong the shift is; the first is what the control has in all comparisons but its own,
        and should be 0. At strength 1 a shift is at most half a standard deviation of the output
        of batch norm.
    rates : tuple of float
        Learning rates. Each arm is judged at the one with its smallest loss.
    depth, width, batch_size : int
        Hidden layers, units in each, and examples of a mini-batch.
    steps, every : int
        Updates, and updates between two measurements.
    seeds, first_seed : int
        As in `bnlib.experiments.engine.networks.Config`.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    strengths: tuple[float, ...] = (0.0, 1.0, 3.0)
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    depth: int = 8
    width: int = 32
    batch_size: int = 64
    steps: int = 100
    every: int = 50
    seeds: int = 16
    first_seed: int = 0


@dataclass(frozen=True)
class Result:
    """What `run` measured, for n norms, s strengths, r learning rates and k seeds.

    Attributes
    ----------
    config : Config
    loss : ndarray, (n, s, r, k)
        Of the mini-batches, mean over all steps; infinite where the training diverged.
    accuracy : ndarray, (n, s, r, k)
        On the test images, in eval mode, after the last step.
    distance : ndarray, (n, s, r, k)
        log10 of the Wasserstein distance between successive steps, mean over measurements and
        two layers; NaN where the training diverged.
    """

    config: Config
    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    distance: NDArray[np.float64]

    def best_rate(self, norm: int, strength: int) -> int:
        """Return the number of the learning rate with the smallest loss for this arm."""
        return int(rates.best(self.loss[norm, strength].mean(axis=-1)))

    def best(self, field: str, norm: int, strength: int) -> NDArray[np.float64]:
        """Return a field of an arm at its best rate, (k,)."""
        return getattr(self, field)[norm, strength, self.best_rate(norm, strength)]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train the networks of all norms, strengths and rates, and measure.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar for each arm.

    Returns
    -------
    Result
        The same for the same config and machine; the training is in float32.
    """
    arms = [
        [_train(config, norm, strength, progress) for strength in config.strengths]
        for norm in config.norms
    ]
    return Result(config, *(np.array([[arm[i] for arm in row] for row in arms]) for i in range(3)))


def build(config: networks.Config, strength: float) -> Sequential:
    """Build networks with a random shift before each ReLU, or without if the strength is 0."""
    network = networks.build(config)
    if strength == 0:
        return network
    rngs, layers = networks.generators(config, networks.NOISE), []
    options = {"n_mu": strength * SHIFT, "n_sigma": 1 + strength * SCALE}
    for layer in network:
        if isinstance(layer, ReLU):
            layers.append(RandomShift(rngs, len(config.rates), **options))
        layers.append(layer)
    return Sequential(*layers)


def _train(config: Config, norm: str, strength: float, progress: bool) -> tuple[NDArray, ...]:
    arm = networks.Config.of(config, norm=norm, lr=config.rates, dtype="float32")
    recorders = {"distance": record_distance, "accuracy": training.record_test_accuracy}
    trained = training.train(
        arm,
        recorders,
        every=config.every,
        progress=progress,
        build=partial(build, strength=strength),
    )
    loss = rates.cost(trained.loss.mean(axis=1))
    with np.errstate(divide="ignore"):  # a lane whose units are all dead
        distance = np.log10(trained.records["distance"]).mean(axis=(1, 2))
    columns = loss, trained.records["accuracy"][:, -1], distance
    return tuple(map(trained.by_rate, columns))


def judge(result: Result) -> dict[str, Verdict]:
    """Judge whether the network whose layers see more shift trains more slowly.

    Parameters
    ----------
    result : Result
        Of two norms. With a norm and the same again, and all strengths 0, it is the negative
        control.

    Returns
    -------
    dict of str to Verdict
        For each strength after the first, the loss with the second norm and that shift, minus
        the loss with the first norm and the first strength, each at its best rate. "no norm" is
        the same with the first norm in both: what the shift does where nothing can undo it. The
        loss of a network that diverges at every rate counts as "at least that of guessing".

    Raises
    ------
    ValueError
        If the result is not of two norms.
    """
    check_two_arms(result.config.norms)
    return {
        f"{name}, shift {strength:g}": _compare(result, norm, i)
        for name, norm in (("batch norm", 1), ("no norm", 0))
        for i, strength in enumerate(result.config.strengths[1:], start=1)
    }


def _compare(result: Result, norm: int, strength: int) -> Verdict:
    """Judge one norm with a shift against the first norm without, each at its best rate."""
    plain, shifted = result.best("loss", 0, 0), result.best("loss", norm, strength)
    diverged = ~np.isfinite(shifted)  # their loss has no bound; it is more than that of guessing
    bounds = Between(np.where(diverged, GUESSING, shifted), shifted)
    return paired_verdict(CLAIM, SOURCE, bounds, plain, MARGIN)


def judge_rate(result: Result, strength: int, rate: int) -> Verdict:
    """Judge as `judge` does, at one learning rate for both arms.

    Parameters
    ----------
    result : Result
    strength, rate : int
        Numbers of the strength and of the learning rate in the config.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        If one of the arms diverged there.
    """
    return paired_verdict(
        CLAIM, SOURCE, result.loss[1, strength, rate], result.loss[0, 0, rate], MARGIN
    )


def judge_shift(result: Result, strength: int) -> Verdict:
    """Judge whether layers with the second norm and injected shift see more shift, in decades.

    Parameters
    ----------
    result : Result
    strength : int
        Number of the strength in the config.

    Returns
    -------
    Verdict
        Compared with the first norm without shift, each at its best rate.
    """
    claim = "The injected shift is more than the shift without batch norm."
    arms = result.best("distance", 1, strength), result.best("distance", 0, 0)
    return paired_verdict(claim, SOURCE, *arms, SHIFT_MARGIN)


def judge_rates(result: Result) -> dict[tuple[str, str], Verdict]:
    """Judge as `judge` does with the second norm, at each arm's best rate and at the smallest one.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of (str, str) to Verdict
        By the levels of `FACTORS`.

    Raises
    ------
    ValueError
        If the result is not of two norms.
    """
    check_two_arms(result.config.norms)
    verdicts = {}
    for i, strength in enumerate(result.config.strengths[1:], start=1):
        shift = f"shift {strength:g}"
        verdicts[shift, "at the best rates"] = _compare(result, 1, i)
        verdicts[shift, "at the smallest rate"] = judge_rate(result, i, 0)
    return verdicts
