"""Whether gradients vanish or explode at initialization, without and with batch norm.

Networks of :mod:`bnlib.experiments.signal_propagation`, in cases that differ in what they are
without batch norm. :doc:`/book/depth_and_signal_propagation`; what theory predicts is in
:mod:`bnlib.experiments.engine.infinite_width`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnlib.experiments import signal_propagation
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.progress import track
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

CASES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "sigmoid": {"activation": "sigmoid"},
        "ReLU, half of He": {"scales": (0.5,)},
        "ReLU, He": {},
        "residual, He": {"residual": True},
        "linear": {"activation": "linear"},
        "tanh": {"activation": "tanh"},
        "ReLU, twice He": {"scales": (2.0,)},
    }
)
"""Name -> fields of `signal_propagation.Config`; the scale is 1 (He, or Xavier) if not given."""

Case = Literal[
    "sigmoid", "ReLU, half of He", "ReLU, He", "residual, He", "linear", "tanh", "ReLU, twice He"
]

CLAIM = "With batch norm, gradients neither vanish nor explode."
SOURCE = "Ioffe and Szegedy (2015)"

LIMIT = 1.0
"""Decades that gradients may drift between the last and the first layer, a factor of 10.

The margin of `signal_propagation.MARGIN`, for its reason, and here for twice the depth: of a factor
of 10 over 100 layers, which is 2.3 % a layer, nobody would say that gradients vanish or explode.
"""

EXPLODE = "At initialization, gradients explode with batch norm."
EXPLODE_SOURCE = "Yang et al. (2019)"

MARGIN = 1.0
"""Decades that count as an effect of the norm on the drift; as `LIMIT`."""

SKIPPED = 3
"""Layers at the top that `growth` leaves out: there the upstream gradient is not yet typical."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    cases : tuple of str
        What the networks are without norm; keys of `CASES`.
    norms : tuple of str
        Networks to compare, the control first; both have the same weights and inputs.
    depth, width, m, seeds, first_seed : int
        As in `signal_propagation.Config`.
    """

    cases: tuple[Case, ...] = ("sigmoid", "ReLU, half of He", "ReLU, He", "residual, He")
    norms: tuple[networks.Arm, ...] = ("none", "batch")
    depth: int = 100
    width: int = 100
    m: int = 32
    seeds: int = 16
    first_seed: int = 0


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    activations, gradients : mapping of str to ndarray, (norms, seeds, depth + 1)
        For each case, log10 of the root mean square over the units and the examples; entry 0 is
        the input, the last one the output.
    """

    config: Config
    activations: Mapping[str, NDArray[np.float64]]
    gradients: Mapping[str, NDArray[np.float64]]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Send inputs forward and gradients backward through the networks of all cases.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        If there is no such case or norm.
    """
    if unknown := {*config.cases} - {*CASES}:
        raise ValueError(f"cases: expected some of {[*CASES]}, got {unknown}")
    measured = {
        case: np.array([_measure(config, case, norm) for norm in config.norms])
        for case in track(config.cases, progress, "case")
    }
    activations, gradients = ({c: rows[:, i] for c, rows in measured.items()} for i in (0, 1))
    return Result(config, activations, gradients)


def _measure(config: Config, case: str, norm: str) -> NDArray[np.float64]:
    """Activations and gradients of one network, (2, k, depth + 1)."""
    norm, first = networks.arm(norm, config.first_seed)
    rngs = [np.random.default_rng(seed) for seed in range(first, first + config.seeds)]
    h, g = (np.stack([rng.standard_normal((config.m, config.width)) for rng in rngs]) for _ in "hg")
    options = {"scales": (1.0,), "depth": config.depth, "width": config.width, **CASES[case]}
    plan = signal_propagation.Config(**options)
    blocks = signal_propagation.build(plan, plan.scales[0], norm, rngs)
    activations, gradients = [_log_rms(h)], [_log_rms(g)]
    for block in blocks:
        h = block(h)
        activations.append(_log_rms(h))
    for block in reversed(blocks):
        g = block.backward(g)
        gradients.append(_log_rms(g))
    return np.array([np.stack(activations, axis=-1), np.stack(gradients[::-1], axis=-1)])


def _log_rms(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * np.log10(np.square(x).mean(axis=(-2, -1)))


def judge(result: Result) -> dict[str, Verdict]:
    """Judge the claim that with batch norm gradients neither vanish nor explode, case by case.

    Parameters
    ----------
    result : Result
        Of two norms, the control first.

    Returns
    -------
    dict of str to Verdict
        The effect, in decades, is how far the drift with the second norm stays below `LIMIT`. The
        drift is the absolute difference of log10 of the root mean square of the gradients between
        the last and the first layer.

    Raises
    ------
    ValueError
        If the result is not of two norms, or has one seed only.
    """
    return {
        case: paired_verdict(
            f"{CLAIM[:-1]}: {case}.", SOURCE, LIMIT - drift[1], np.zeros_like(drift[1]), 0.0
        )
        for case, drift in _drifts(result).items()
    }


def judge_explosion(result: Result) -> dict[str, Verdict]:
    """Judge the claim that with batch norm gradients explode, case by case.

    Parameters
    ----------
    result : Result
        As for `judge`.

    Returns
    -------
    dict of str to Verdict
        The effect, in decades, is how much more than `LIMIT` the gradients grow on their way from
        the last layer to the first, with the second norm.

    Raises
    ------
    ValueError
        As `judge`.
    """
    check_two_arms(result.config.norms)
    grown = {case: g[1, :, 0] - g[1, :, -1] for case, g in result.gradients.items()}
    return {
        case: paired_verdict(
            f"{EXPLODE[:-1]}: {case}.", EXPLODE_SOURCE, each, np.full_like(each, LIMIT), 0.0
        )
        for case, each in grown.items()
    }


def judge_difference(result: Result) -> dict[str, Verdict]:
    """Judge whether gradients drift less with the second norm than with the first, case by case.

    Parameters
    ----------
    result : Result
        As for `judge`. A norm and the same again are the negative control.

    Returns
    -------
    dict of str to Verdict
        The effect, in decades, is the drift with the first norm minus that with the second.

    Raises
    ------
    ValueError
        As `judge`.
    """
    return {
        case: paired_verdict(
            f"With batch norm, gradients drift less: {case}.", SOURCE, *drift, MARGIN
        )
        for case, drift in _drifts(result).items()
    }


def _drifts(result: Result) -> dict[str, NDArray[np.float64]]:
    """Decades between the last and the first layer, (2, k), for each case."""
    check_two_arms(result.config.norms)
    return {case: np.abs(g[..., 0] - g[..., -1]) for case, g in result.gradients.items()}


def growth(gradients: ArrayLike) -> NDArray[np.float64]:
    """Compute by what factor the mean square of the gradient grows a layer on its way back.

    Parameters
    ----------
    gradients : array_like, (..., depth + 1)
        log10 of root mean squares, from the input to the output, of a network of at least six
        layers.

    Returns
    -------
    ndarray, (...)
        Geometric mean over the layers but the first, whose input is no output of an activation
        function, and the last `SKIPPED`.
    """
    g = np.asarray(gradients, np.float64)
    layers = g.shape[-1] - 2 - SKIPPED
    return 10 ** (2 * (g[..., 1] - g[..., -1 - SKIPPED]) / layers)
