"""How many directions the activations of a deep ReLU network use at initialization.

The networks of :mod:`bnlib.experiments.signal_propagation`; the rank is that of the m activations
of a layer, one a row, not centred. :doc:`/book/depth_and_signal_propagation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnlib._validation import check_increasing
from bnlib.experiments import signal_propagation
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.progress import track
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict
from bnlib.measure import entropy_rank, participation_rank, stable_rank

RANKS = {"participation": participation_rank, "entropy": entropy_rank, "stable": stable_rank}
PLACES = ("before ReLU", "after ReLU")

CLAIM = "Batch norm avoids rank collapse at initialization."
SOURCE = "Daneshmand et al. (2020)"

MARGIN = 1.0
"""Ranks that count as an effect: one more direction, as a rank is a number of directions."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of str
        Networks to compare, the control first; all have the same weights and inputs.
    layers : tuple of int
        Layers whose ranks are measured, increasing; the last one is the depth.
    width, m, seeds, first_seed : int
        As in `signal_propagation.Config`.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    layers: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    width: int = 32
    m: int = 32
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        check_increasing("layers", self.layers)


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    ranks : mapping of (str, str) to ndarray, (norms, seeds, layers)
        For each rank of `RANKS` at each place of `PLACES`; "before ReLU" is after batch norm.
    cosine : ndarray, (norms, seeds, layers)
        Mean cosine of the angle between the activations of two examples, after the ReLU.
    """

    config: Config
    ranks: Mapping[tuple[str, str], NDArray[np.float64]]
    cosine: NDArray[np.float64]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Send random inputs through the networks and measure ranks and angles.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result

    Notes
    -----
    Inputs are standard normal, weights are He's.
    """
    measured = [_measure(config, norm) for norm in track(config.norms, progress, "norm")]
    keys = [(rank, place) for rank in RANKS for place in PLACES]
    ranks = {key: np.array([arm[key] for arm in measured]) for key in keys}
    return Result(config, ranks, np.array([arm["cosine"] for arm in measured]))


def _measure(config: Config, norm: str) -> dict[object, NDArray[np.float64]]:
    norm, first = networks.arm(norm, config.first_seed)
    rngs = [np.random.default_rng(seed) for seed in range(first, first + config.seeds)]
    sizes = {"depth": max(config.layers), "width": config.width, "m": config.m}
    h = np.stack([rng.standard_normal((config.m, config.width)) for rng in rngs])
    blocks = signal_propagation.build(signal_propagation.Config(**sizes), 1.0, norm, rngs)
    rows: dict[object, list[NDArray[np.float64]]] = {}
    for layer, block in enumerate(blocks, 1):
        z = block[:-1](h)
        h = block[-1](z)
        if layer in config.layers:
            for place, x in zip(PLACES, (z, h), strict=True):
                for name, rank in RANKS.items():
                    rows.setdefault((name, place), []).append(rank(x))
            rows.setdefault("cosine", []).append(_mean_cosine(h))
    return {key: np.stack(row, axis=-1) for key, row in rows.items()}


def _mean_cosine(h: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the pairs of different examples, (k, m, d) -> (k,)."""
    length = np.linalg.norm(h, axis=-1, keepdims=True)
    unit = np.divide(h, length, out=np.zeros_like(h), where=length > 0)
    m = h.shape[-2]
    total = np.square(unit.sum(axis=-2)).sum(axis=-1)
    return (total - np.square(unit).sum(axis=(-2, -1))) / (m * (m - 1))


def judge(result: Result) -> dict[str, Verdict]:
    """Judge the claim that batch norm avoids rank collapse, for each rank at each place.

    Parameters
    ----------
    result : Result
        Of two norms, the control first. A norm and the same again are the negative control.

    Returns
    -------
    dict of str to Verdict
        The effect is the rank in the last layer with the second norm minus with the first.

    Raises
    ------
    ValueError
        If the result is not of two norms, or has one seed only.
    """
    check_two_arms(result.config.norms)
    verdicts = {}
    for (rank, place), (control, treatment) in result.ranks.items():
        name = f"{rank} rank, {place}"
        last = treatment[:, -1], control[:, -1]
        verdicts[name] = paired_verdict(f"{CLAIM[:-1]}: {name}.", SOURCE, *last, MARGIN)
    return verdicts
