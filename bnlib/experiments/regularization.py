"""Batch norm as a regularizer: as a whole, and the noise of its mini-batches by itself.

For :doc:`/book/regularization`. The arms differ in the norm alone. Each has the learning rate that
is best for it on validation data, and each network is read at its own least validation loss.
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
from bnlib.experiments.engine.regularizers import Curves, build, decay_gamma, tuned
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

CLAIM = "It regularizes mildly"
SOURCE = "Ioffe and Szegedy (2015); Luo et al. (2019)"
MARGIN = 0.05
"""Smallest difference of cross-entropies that counts: the true class gets 5 % more probability."""

FACTORS = "what of BN is there", "where the arms are compared"
CASES = tuple(product(("BN", "its noise"), ("stopped early", "equal training loss")))


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    An arm is "none", "layer", "batch", "identity" (the parameters of BN alone), "ghost-8" (BN over
    parts of 8 examples, or another divisor of `batch_size`), "population" (statistics of 256 fixed
    training examples), "decay" (the same with a decay of gamma), or one of these with "again"
    behind it: from other seeds.

    Attributes
    ----------
    norms : pair of str
        Control and treatment: what BN as a whole does.
    noise : pair of str
        The same without and with the noise of the mini-batch.
    others : tuple of str
        Arms that are trained besides.
    decays : tuple of float
        Decay of gamma, of which the arm "decay" takes the best.
    level : float
        Training cross-entropy at which arms are compared; every network has to reach it.
    dataset, n_train, depth, width, batch_size, steps, momentum, seeds, first_seed
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
        "ghost-32",
        "ghost-16",
        "ghost-8",
        "ghost-4",
        "decay",
        "none again",
    )
    decays: tuple[float, ...] = (0.03, 0.1, 0.3)
    level: float = 1.2
    dataset: str = "mnist1d"
    n_train: int = 1000
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
            if norm not in ("none", "layer", "batch", "identity", "population", "decay"):
                raise ValueError(
                    f"arms: expected none, layer, batch, identity, population, decay or ghost-n "
                    f"with a divisor n of batch_size={self.batch_size}, got {arm!r}"
                )


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    curves : mapping of str to Curves
        Arm -> the learning rate and the decay that were chosen, and the scores over training.
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
    norm = "population" if kind == "decay" else kind

    def options(decay: float) -> dict[str, Any]:
        return {
            "build": partial(build, norm=norm),
            "optimizer": partial(decay_gamma, decay=decay),
        }

    return tuned(
        trained,
        options,
        config.decays if kind == "decay" else (0.0,),
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
        By `CASES`, the levels of `FACTORS`. The effect is how much smaller the test cross-entropy
        is with the treatment, at the least validation loss of each network or where its training
        loss falls to `config.level`.

    Raises
    ------
    ValueError
        If a network does not reach the training loss `config.level`.
    """
    config, curves = result.config, result.curves
    verdicts = {}
    for name, pair in (("BN", config.norms), ("its noise", config.noise)):
        arms = [curves[arm] for arm in pair]
        for where, losses in (
            ("stopped early", [arm.stopped() for arm in arms]),
            ("equal training loss", [arm.at_loss(config.level) for arm in arms]),
        ):
            verdicts[name, where] = _verdict(f"{name}, {where}", *losses)
    return verdicts


def compare(result: Result, control: str, treatment: str) -> Verdict:
    """Judge how much smaller the test loss of one arm is than that of another, stopped early.

    Parameters
    ----------
    result : Result
    control, treatment : str
        Arms of the result.

    Returns
    -------
    Verdict
    """
    pair = (result.curves[arm].stopped() for arm in (control, treatment))
    return _verdict(f"{treatment} against {control}", *pair)


def _verdict(case: str, control: NDArray[np.floating], treatment: NDArray[np.floating]) -> Verdict:
    return paired_verdict(f"{CLAIM}: {case}.", SOURCE, control, treatment, MARGIN)
