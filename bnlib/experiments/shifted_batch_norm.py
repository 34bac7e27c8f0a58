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

from bnlib._validation import check_increasing
from bnlib.experiments.engine import networks, rates, training
from bnlib.experiments.engine.drift import MARGIN as SHIFT_MARGIN
from bnlib.experiments.engine.drift import record_distance
from bnlib.experiments.records.verdict import Between, Verdict, check_two_arms, paired_verdict
from bnlib.layers import RandomShift, Sequential
from bnlib.layers.random_shift import SCALE, SHIFT

CLAIM = "The network whose layers see more shift trains more slowly."
SOURCE = "Ioffe and Szegedy (2015), as tested by Santurkar et al. (2018)"

FACTORS = "the shift", "the number of steps"

GUESSING = float(np.log(10))
"""Loss of equal probabilities for ten classes; that of a network that diverges is at least this."""

LEARNED = 0.9 * GUESSING
"""An arm whose mean loss is above this at every rate has not learned."""

MARGIN = 0.1
"""Difference of training losses that counts, in nats.

About 4 % of `GUESSING`.
"""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of str
        What is compared, the control first.
    strengths : tuple of float
        How strong the shift is; the first is what the control has in all comparisons but its own,
        and should be 0. At strength 1 a shift is at most half a standard deviation of the output
        of batch norm.
    rates : tuple of float
        Learning rates. Each arm is judged at the one with its smallest loss.
    dataset, activation, optimizer, momentum, depth, width, batch_size
        As in `bnlib.experiments.engine.networks.Config`.
    budgets : tuple of int
        Numbers of updates after which the networks are compared, increasing.
    every : int
        Updates between two measurements; a divisor of the budgets.
    seeds, first_seed : int
        As in `bnlib.experiments.engine.networks.Config`.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    strengths: tuple[float, ...] = (0.0, 1.0, 3.0)
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    dataset: str = "digits"
    activation: networks.Activation = "relu"
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    depth: int = 8
    width: int = 32
    batch_size: int = 64
    budgets: tuple[int, ...] = (100,)
    every: int = 50
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        check_increasing("budgets", self.budgets)
        if any(steps % self.every for steps in self.budgets):
            raise ValueError(f"every: expected a divisor of {self.budgets}, got {self.every}")


@dataclass(frozen=True)
class Result:
    """What `run` measured, for b budgets, n norms, s strengths, r learning rates and k seeds.

    Attributes
    ----------
    config : Config
    loss : ndarray, (b, n, s, r, k)
        Of the mini-batches, mean over the steps of the budget; infinite where the training
        diverged.
    accuracy : ndarray, (b, n, s, r, k)
        On the test images, in eval mode, after the steps of the budget.
    distance : ndarray, (b, n, s, r, k)
        log10 of the Wasserstein distance between successive steps, mean over the measurements
        within the budget and two layers; NaN where the training diverged.
    """

    config: Config
    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    distance: NDArray[np.float64]

    def best_rate(self, norm: int, strength: int, budget: int = 0) -> int:
        """Return the number of the learning rate with the smallest loss for this arm."""
        return int(rates.best(self.loss[budget, norm, strength].mean(axis=-1)))

    def best(self, field: str, norm: int, strength: int, budget: int = 0) -> NDArray[np.float64]:
        """Return a field of an arm at its best rate, (k,)."""
        rate = self.best_rate(norm, strength, budget)
        return getattr(self, field)[budget, norm, strength, rate]


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
    measured = np.array(arms)  # (n, s, 3, b, r, k)
    return Result(config, *np.moveaxis(measured, (2, 3), (0, 1)))


def build(config: networks.Config, strength: float) -> Sequential:
    """Build networks with a random shift before each activation; without at strength 0."""
    network = networks.build(config)
    if strength == 0:
        return network
    rngs, layers = networks.generators(config, networks.NOISE), []
    options = {"n_mu": strength * SHIFT, "n_sigma": 1 + strength * SCALE}
    for layer in network:
        if isinstance(layer, networks.ACTIVATIONS[config.activation]):
            layers.append(RandomShift(rngs, len(config.rates), **options))
        layers.append(layer)
    return Sequential(*layers)


def _train(config: Config, norm: str, strength: float, progress: bool) -> list[NDArray]:
    """Return loss, accuracy and distance, each (b, r, k)."""
    steps = config.budgets[-1]
    arm = networks.Config.of(config, norm=norm, lr=config.rates, steps=steps, dtype="float32")
    recorders = {"distance": record_distance, "accuracy": training.record_test_accuracy}
    trained = training.train(
        arm,
        recorders,
        every=config.every,
        progress=progress,
        build=partial(build, strength=strength),
    )
    with np.errstate(divide="ignore"):  # a replica whose units are all dead
        distance = np.log10(trained.records["distance"]).mean(axis=2)  # (replicas, t)
    accuracy = trained.records["accuracy"]
    columns = []
    for steps in config.budgets:
        last = steps // config.every
        loss = rates.cost(trained.loss[:, : steps + 1].mean(axis=1))
        columns.append((loss, accuracy[:, last], distance[:, : last + 1].mean(axis=1)))
    return [np.stack([*map(trained.by_rate, column)]) for column in zip(*columns, strict=True)]


def check(config: Config) -> None:
    """Raise ValueError if there is nothing to judge: not two norms, or no shift but the first."""
    check_two_arms(config.norms)
    if len(config.strengths) < 2:
        raise ValueError(f"strengths: expected 0 and at least one more, got {config.strengths}")


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
        After the first budget, under names such as "batch, shift 3". For each strength after the
        first, the loss with the second norm and that shift, minus the loss with the first norm and
        the first strength, each at its best rate. Under the name of the first norm both have that
        norm: what the shift does where nothing can undo it. The loss of a network that diverges at
        every rate counts as "at least that of guessing".

    Raises
    ------
    ValueError
        As `check`.
    """
    check(result.config)
    return {
        f"{result.config.norms[norm]}, shift {strength:g}": _compare(result, norm, i, 0)
        for norm in (1, 0)
        for i, strength in enumerate(result.config.strengths[1:], start=1)
    }


def _compare(result: Result, norm: int, strength: int, budget: int, powerless: str = "") -> Verdict:
    """Judge one norm with a shift against the first norm without, each at its best rate."""
    plain = result.best("loss", 0, 0, budget)
    shifted = result.best("loss", norm, strength, budget)
    diverged = ~np.isfinite(shifted)  # their loss has no bound; it is more than that of guessing
    bounds = Between(np.where(diverged, GUESSING, shifted), shifted)
    return paired_verdict(CLAIM, SOURCE, bounds, plain, MARGIN, powerless=powerless)


def judge_rate(result: Result, strength: int, rate: int, budget: int = 0) -> Verdict:
    """Judge as `judge` does, at one learning rate for both arms.

    Parameters
    ----------
    result : Result
    strength, rate, budget : int
        Numbers of the strength, the learning rate and the budget in the config.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        If one of the arms diverged there.
    """
    loss = result.loss[budget]
    return paired_verdict(CLAIM, SOURCE, loss[1, strength, rate], loss[0, 0, rate], MARGIN)


def judge_shift(result: Result, strength: int, budget: int = 0) -> Verdict:
    """Judge whether layers with the second norm and injected shift see more shift, in decades.

    Parameters
    ----------
    result : Result
    strength, budget : int
        Numbers of the strength and the budget in the config.

    Returns
    -------
    Verdict
        Compared with the first norm without shift, each at its best rate.
    """
    claim = "The injected shift is more than the shift without batch norm."
    shifted, plain = (result.best("distance", *arm, budget) for arm in ((1, strength), (0, 0)))
    return paired_verdict(claim, SOURCE, shifted, plain, SHIFT_MARGIN)


def judge_budgets(result: Result) -> dict[tuple[str, str], Verdict]:
    """Judge as `judge` does with the second norm, for each strength and each budget.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of (str, str) to Verdict
        By the levels of `FACTORS`. "cannot tell" where the treatment was not given: the layers do
        not see more shift than those with the first norm and without injected shift; or neither
        arm learns, as measured by `LEARNED`.

    Raises
    ------
    ValueError
        As `check`.
    """
    check(result.config)
    verdicts = {}
    for i, strength in enumerate(result.config.strengths[1:], start=1):
        for budget, steps in enumerate(result.config.budgets):
            measured = np.isfinite(result.best("distance", 1, i, budget)).all()
            given = measured and judge_shift(result, i, budget).low > 0
            least = min(result.best("loss", *arm, budget).mean() for arm in ((0, 0), (1, i)))
            reason = "" if given else "the layers see no more shift than without norm, or diverge"
            if least > LEARNED:
                reason = "neither arm learns"
            verdict = _compare(result, 1, i, budget, reason)
            verdicts[f"shift {strength:g}", f"{steps} steps"] = verdict
    return verdicts
