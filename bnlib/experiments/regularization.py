"""Batch norm as a regularizer: as a whole, how strong it is, and what its noise has to do with it.

For :doc:`/book/regularization`. The arms differ in the norm, or in the regularizer, alone. Each has
the learning rate that is best for it on validation data, and each network is read at its own least
validation loss. Each seed has its own training examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine import networks
from bnlib.experiments.engine.regularizers import LOSS, Curves, build, decay, tuned
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

CLAIMS = {
    "BN": "It regularizes",
    "its noise": "It is the noise that regularizes",
    "mild": "It regularizes mildly",
}
SOURCE = "Ioffe and Szegedy (2015); Luo et al. (2019)"
MARGIN = 0.05
"""Smallest difference of cross-entropies that counts: the true class gets 5 % more probability."""

MILD = 0.5
"""A norm is mild if it gains at most this share of what the best of `REGULARIZERS` gains.

Half, since of something that helps more than half as much as a method made for nothing else nobody
would say that it helps mildly.
"""

REGULARIZERS = ("dropout", "weight decay")
"""What a norm is compared with: networks without norm, each regularizer at its best strength."""

STRENGTHS = {
    "dropout": (0.1, 0.3, 0.5),
    "weight decay": (0.003, 0.01, 0.03),
    "gamma decay": (0.03, 0.1, 0.3),
}
"""Probability of dropout, weight decay of all parameters, and decay of gamma, to choose from."""

READINGS = "stopped early", "equal training loss"
FACTORS = "what of BN is there", "where the arms are compared"
CASES = tuple(product(("BN", "its noise"), READINGS))


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    An arm is a norm of :class:`bnlib.experiments.engine.networks.Config`, "ghost-8" (BN over parts
    of 8 examples, or another divisor of `batch_size`), "population" (statistics of 256 fixed
    training examples), "gamma decay" (the same with a decay of gamma), "dropout" or "weight decay"
    (no norm, the best of `STRENGTHS`), or one of these with "again" behind it: from other seeds.

    Attributes
    ----------
    norms : pair of str
        Control and treatment: what BN as a whole does.
    noise : pair of str
        The same without and with the noise of the mini-batch.
    others : tuple of str
        Arms that are trained besides.
    level : float
        Training cross-entropy at which arms are compared; every network has to reach it.
    dataset, n_train, redraw, depth, width, batch_size, steps, momentum, seeds, first_seed
        As in :class:`bnlib.experiments.engine.networks.Config`.
    rates : tuple of float
        Learning rates to choose from.
    tuning_seeds : int
        Networks for each choice, with seeds of their own.
    every : int
        Steps between two records.
    """

    norms: tuple[str, ...] = ("none", "batch")
    noise: tuple[str, ...] = ("population", "batch")
    others: tuple[str, ...] = (
        "layer",
        "ghost-16",
        "ghost-8",
        "ghost-4",
        *REGULARIZERS,
        "identity",
        "none again",
        "batch again",
        "ghost-16 again",
    )
    level: float = 1.2
    dataset: str = "mnist1d"
    n_train: int = 1000
    redraw: bool = True
    depth: int = 2
    width: int = 64
    batch_size: int = 64
    steps: int = 300
    rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    momentum: float = 0.9
    seeds: int = 16
    first_seed: int = 0
    tuning_seeds: int = 3
    every: int = 30

    def __post_init__(self) -> None:
        for name in ("norms", "noise"):
            check_two_arms(getattr(self, name), name)
        for arm in (*self.norms, *self.noise, *self.others):
            norm, _ = networks.arm(arm)
            kind, _, size = norm.partition("-")
            if kind == "ghost" and size.isdigit() and not self.batch_size % max(int(size), 1):
                continue
            if norm not in (known := (*networks.NORMS, "population", *STRENGTHS)):
                raise ValueError(
                    f"arms: expected {', '.join(known)} or ghost-n with a divisor n of "
                    f"batch_size={self.batch_size}, got {arm!r}"
                )


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    curves : mapping of str to Curves
        Arm -> the learning rate and the strength that were chosen, and the scores over training.
    """

    config: Config
    curves: Mapping[str, Curves]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train all arms.

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
    arms = dict.fromkeys((*config.norms, *config.noise, *config.others))
    return Result(config, {arm: _train(arm, config, progress) for arm in arms})


def _train(arm: str, config: Config, progress: bool) -> Curves:
    kind, first = networks.arm(arm, config.first_seed)
    trained = networks.Config.of(config, lr=config.rates, first_seed=first, dtype="float32")
    norm = {"gamma decay": "population", **dict.fromkeys(REGULARIZERS, "none")}.get(kind, kind)

    def options(strength: float) -> dict[str, Any]:
        if kind == "dropout":
            return {"build": partial(build, norm=norm, p=strength)}
        decayed = partial(decay, names="gamma" if kind == "gamma decay" else "", decay=strength)
        return {"build": partial(build, norm=norm), "optimizer": decayed}

    return tuned(
        trained,
        options,
        STRENGTHS.get(kind, (0.0,)),
        tuning_seeds=config.tuning_seeds,
        every=config.every,
        progress=progress,
    )


def judge(result: Result) -> dict[tuple[str, str], Verdict]:
    """Judge the claim for BN as a whole, and for the noise of the mini-batch by itself.

    Parameters
    ----------
    result : Result
        With an arm and the same again in `norms` and in `noise`, it is the negative control.

    Returns
    -------
    dict of (str, str) to Verdict
        By `CASES`, the levels of `FACTORS`; as `compare`.

    Raises
    ------
    ValueError
        If a network does not reach the training loss `config.level`.
    """
    pairs = {"BN": result.config.norms, "its noise": result.config.noise}
    return {(what, where): compare(result, *pairs[what], where, what) for what, where in CASES}


def compare(
    result: Result, control: str, treatment: str, where: str = READINGS[0], what: str = "BN"
) -> Verdict:
    """Judge how much smaller the test loss of one arm is than that of another.

    Parameters
    ----------
    result : Result
    control, treatment : str
        Arms of the result.
    where : {"stopped early", "equal training loss"}
        At the least validation loss of each network, or where its training loss falls to
        `config.level`.
    what : {"BN", "its noise"}
        Which of `CLAIMS` it is about.

    Returns
    -------
    Verdict
    """
    losses = (_loss(result, arm, where) for arm in (control, treatment))
    claim = f"{CLAIMS[what]}: {treatment} against {control}, {where}."
    return paired_verdict(claim, SOURCE, *losses, MARGIN)


def judge_norm(result: Result) -> Verdict:
    """Judge BN as a whole, each network stopped early, as `compare`."""
    return compare(result, *result.config.norms)


def judge_noise(result: Result) -> Verdict:
    """Judge the noise of the mini-batch by itself, each network stopped early, as `compare`."""
    return compare(result, *result.config.noise, what="its noise")


def best_regularizer(result: Result) -> str:
    """Return that of `REGULARIZERS` with the least validation loss.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
    """
    losses = [result.curves[arm].stopped(LOSS, "valid").mean() for arm in REGULARIZERS]
    return REGULARIZERS[int(np.argmin(losses))]


def judge_mildness(
    result: Result, treatment: str | None = None, where: str = READINGS[0]
) -> Verdict:
    """Judge whether a norm regularizes mildly: half as much as dropout or weight decay, or less.

    Parameters
    ----------
    result : Result
        With the arms of `REGULARIZERS`.
    treatment : str, optional
        By default the second norm. "none again" is the control that has to be mild, and the best
        regularizer itself the one that must not be.
    where : {"stopped early", "equal training loss"}

    Returns
    -------
    Verdict
        The effect is the share `MILD` of what the best regularizer gains, minus what the treatment
        gains. A gain is how much smaller the test cross-entropy is than that of the first norm.
        "cannot tell" where the regularizer gains less than `MARGIN`: nothing there is to be gained.
    """
    none, norm = result.config.norms
    arms = none, best_regularizer(result), treatment or norm
    without, best, treated = (_loss(result, arm, where) for arm in arms)
    gain = without - best
    powerless = f"{arms[1]} gains nothing" if np.mean(gain) < MARGIN else ""
    claim = f"{CLAIMS['mild']}: {arms[2]}, {where}."
    limit = MILD * gain
    return paired_verdict(claim, SOURCE, limit, without - treated, 0.0, powerless=powerless)


def judge_ghosts(result: Result) -> dict[str, Verdict]:
    """Judge whether more noise regularizes more: ghost batches against BN, stopped early.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of str to Verdict
        By the parts, "parts of 8" for the arm "ghost-8", or "parts of 8 (other seeds)" for
        "ghost-8 again", which is compared with "batch again"; as `compare`.
    """
    verdicts = {}
    for arm in (arm for arm in result.curves if arm.startswith("ghost-")):
        ghost, _ = networks.arm(arm)
        parts = arm.replace("ghost-", "parts of ").replace("again", "(other seeds)")
        control = arm.replace(ghost, "batch")
        verdicts[parts] = compare(result, control, arm, what="its noise")
    return verdicts


def _loss(result: Result, arm: str, where: str) -> NDArray[np.floating]:
    curves = result.curves[arm]
    return curves.stopped() if where == READINGS[0] else curves.at_loss(result.config.level)
