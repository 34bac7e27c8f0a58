r"""Activations and gradients of deep networks at initialization, over many seeds.

A plain network of equally wide layers, :math:`h_l = \phi(h_{l-1} W_l)`, or with batch
normalization before :math:`\phi`, gets random inputs and a random upstream gradient. Nothing is
trained. :doc:`/book/motivation`, :doc:`/book/depth_and_signal_propagation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.progress import track
from bnlib.experiments.engine.replicas import build_norm
from bnlib.experiments.records.verdict import Verdict, averaged, check_two_arms, paired_verdict

ACTIVATIONS = {
    "relu": (layers.ReLU, 2.0),
    "sigmoid": (layers.Sigmoid, 1.0),
    "tanh": (layers.Tanh, 1.0),
    "linear": (layers.Sequential, 1.0),  # no layer at all: the identity
}
"""Name -> layer, and the variance of a weight times the width at scale 1 (He, or Xavier)."""

SATURATED = 0.05
"""A sigmoid counts as saturated when its output is nearer than this to 0 or 1."""

CLAIM = "Batch norm keeps activations in a healthy range at initialization."
SOURCE = "Ioffe and Szegedy (2015)"

MARGIN = 1.0
"""Decades that count as an effect on the drift: a factor of 10 between first and last layer.

Larger than what chance does at the He scale: of 40 networks of the default size, the worst drifted
by 0.8 decades.
"""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    activation : {"relu", "sigmoid", "tanh", "linear"}
        Activation function; "linear" is none.
    norms : tuple of str
        Networks to compare; all have the same weights and see the same inputs.
    scales : tuple of float
        Factors on the standard deviation of the weights, relative to He (relu) or Xavier.
    depth, width, m, seeds, first_seed : int
        Layers, units in each, examples, independent replicas, and the first of their seeds.
    residual : bool
        Whether each layer is a branch that is added to its input. The branch is the norm, the
        activation function and then the weights.
    """

    activation: Literal["relu", "sigmoid", "tanh", "linear"] = "relu"
    norms: tuple[networks.Arm, ...] = ("none", "batch")
    scales: tuple[float, ...] = (0.5, 0.9, 1.0, 1.1, 2.0)
    depth: int = 50
    width: int = 100
    m: int = 32
    seeds: int = 16
    first_seed: int = 0
    residual: bool = False


@dataclass(frozen=True)
class Result:
    """What `run` measured; n is the number of norms, s of scales.

    Attributes
    ----------
    config : Config
    activations : ndarray, (n, s, k, depth + 1)
        log10 of the root mean square of an example's activations, mean over the examples; entry
        0 is the input. Numbers too small for float64 count as the smallest one, about -154.
    gradients : ndarray, (n, s, k, depth + 1)
        The same of the gradient with respect to these activations.
    weight_gradients : ndarray, (n, s, k, depth)
        log10 of the root mean square of the gradient of each layer's weights.
    saturated : ndarray, (n, s, k, depth)
        Share of outputs below `SATURATED` or above 1 - `SATURATED`; of interest for sigmoids.
    """

    config: Config
    activations: NDArray[np.float64]
    gradients: NDArray[np.float64]
    weight_gradients: NDArray[np.float64]
    saturated: NDArray[np.float64]


def build(
    config: Config, scale: float, norm: str, rngs: list[np.random.Generator]
) -> list[layers.Sequential | layers.Residual]:
    """Build one network a generator, as a list of its `depth` layers.

    Parameters
    ----------
    config : Config
    scale : float
        One entry of `config.scales`, or any other factor.
    norm : str
        One of `bnlib.experiments.engine.networks.NORMS`. Group norm has as many groups as in
        `bnlib.experiments.engine.networks.Config`.
    rngs : list of k numpy.random.Generator
        Sources of the weights.

    Returns
    -------
    list of Sequential or Residual
        Linear without bias, the norm, activation function. With `residual`, a `Residual` of the
        norm, activation function, linear.

    Raises
    ------
    ValueError
        If there is no such activation function or norm.
    """
    if config.activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {set(ACTIVATIONS)}, got {config.activation}")
    if norm not in networks.NORMS:
        raise ValueError(f"norm: expected one of {networks.NORMS}, got {norm!r}")
    activation, gain = ACTIVATIONS[config.activation]
    init = layers.scaled(scale * np.sqrt(gain / config.width))

    def block() -> layers.Sequential | layers.Residual:
        linear = layers.Linear(config.width, config.width, rng=rngs, init=init, bias=False)
        rest = build_norm(norm, config.width, networks.Config.groups, len(rngs))
        rest.append(activation())
        if config.residual:
            return layers.Residual(layers.Sequential(*rest, linear))
        return layers.Sequential(linear, *rest)

    return [block() for _ in range(config.depth)]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Send random inputs forward and random gradients backward through every network.

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
    Inputs and upstream gradients are standard normal. Scales have independent weights, norms
    share theirs.
    """
    measured = [
        [_measure(config, i, norm) for i in range(len(config.scales))]
        for norm in track(config.norms, progress, "norm")
    ]
    fields = (np.array([[arm[j] for arm in row] for row in measured]) for j in range(4))
    return Result(config, *fields)


def _measure(config: Config, scale_index: int, norm: str) -> tuple[NDArray[np.float64], ...]:
    norm, first = networks.arm(norm, config.first_seed)
    seeds = range(first, first + config.seeds)
    rngs = [np.random.default_rng([seed, scale_index]) for seed in seeds]
    shape = (config.m, config.width)
    h = np.stack([rng.standard_normal(shape) for rng in rngs])
    g = np.stack([rng.standard_normal(shape) for rng in rngs])
    blocks = build(config, config.scales[scale_index], norm, rngs)
    activations, gradients, weight_gradients, saturated = [_log_rms(h)], [_log_rms(g)], [], []
    for block in blocks:
        h = block(h)
        activations.append(_log_rms(h))
        saturated.append((np.abs(h - 0.5) > 0.5 - SATURATED).mean(axis=(1, 2)))
    for block in reversed(blocks):
        g = block.backward(g)
        gradients.append(_log_rms(g))
        (dw,) = (dp for name, dp in block.gradients.items() if name.endswith("weight"))
        weight_gradients.append(_log_rms(dw.reshape(config.seeds, 1, -1)))
    columns = (activations, gradients[::-1], weight_gradients[::-1], saturated)
    return tuple(np.stack(column, axis=1) for column in columns)


def _log_rms(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the examples of log10 of the root mean square, (k, m, d) -> (k,)."""
    mean_square = np.maximum(np.square(x).mean(axis=-1), np.finfo(x.dtype).tiny)
    return 0.5 * np.log10(mean_square).mean(axis=-1)


def judge(result: Result) -> Verdict:
    """Judge the claim that batch norm keeps activations in a healthy range at initialization.

    Parameters
    ----------
    result : Result
        Of two norms, the control first. A norm and the same again are the negative control.

    Returns
    -------
    Verdict
        The effect is the mean over the scales of those of `judge_scales`; where the scales have
        different answers, it is "it depends on the scale".

    Raises
    ------
    ValueError
        If the result is not of two norms, or has one seed only.
    """
    control, treatment = (drift.mean(axis=0) for drift in _drifts(result))
    verdict = paired_verdict(CLAIM, SOURCE, control, treatment, MARGIN)
    by_scale = map("{:g}".format, result.config.scales)
    return averaged(verdict, dict(zip(by_scale, judge_scales(result), strict=True)), "the scale")


def judge_scales(result: Result) -> list[Verdict]:
    """Judge the claim of `judge` for each scale by itself.

    Parameters
    ----------
    result : Result
        As for `judge`.

    Returns
    -------
    list of Verdict
        The effect, in decades, is how much smaller the drift is with the second norm than with
        the first. The drift is the absolute difference of log10 of the root mean square of the
        activations between the first and the last layer.

    Raises
    ------
    ValueError
        As `judge`.
    """
    arms = zip(result.config.scales, *_drifts(result), strict=True)
    return [
        paired_verdict(f"{CLAIM[:-1]}, at scale {scale:g}.", SOURCE, control, treatment, MARGIN)
        for scale, control, treatment in arms
    ]


def _drifts(result: Result) -> NDArray[np.float64]:
    """Decades between the first and the last layer, (2, s, k)."""
    check_two_arms(result.config.norms)
    return np.abs(result.activations[..., -1] - result.activations[..., 1])
