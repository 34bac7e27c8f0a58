r"""Activations and gradients of deep networks at initialization, over many seeds.

A plain network of equally wide layers, :math:`h_l = \phi(h_{l-1} W_l)`, or with batch
normalization before :math:`\phi`, gets random inputs and a random upstream gradient. Nothing is
trained. :doc:`/book/motivation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bnlib.layers import BatchNorm, Layer, Linear, ReLU, Sequential, Sigmoid, Tanh, scaled

ACTIVATIONS = {"relu": (ReLU, 2.0), "sigmoid": (Sigmoid, 1.0), "tanh": (Tanh, 1.0)}
"""Name -> layer, and the variance of a weight times the width at scale 1 (He, or Xavier)."""

SATURATED = 0.05
"""A sigmoid counts as saturated when its output is nearer than this to 0 or 1."""

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
    activation : {"relu", "sigmoid", "tanh"}
    norms : tuple of {"none", "batch"}
        Networks to compare; all have the same weights and see the same inputs.
    scales : tuple of float
        Factors on the standard deviation of the weights, relative to He (relu) or Xavier.
    depth, width, m, seeds : int
        Layers, units in each, examples, and independent replicas.
    """

    activation: str = "relu"
    norms: tuple[str, ...] = ("none", "batch")
    scales: tuple[float, ...] = (0.5, 0.9, 1.0, 1.1, 2.0)
    depth: int = 50
    width: int = 100
    m: int = 32
    seeds: int = 16


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


class Verdict(NamedTuple):
    """What `judge` found; the arrays have one entry a scale."""

    verdict: str  # supported, refuted, no effect, or mixed
    effect: NDArray[np.float64]  # decades of drift that batch norm takes away, mean over seeds
    low: NDArray[np.float64]  # ends of the 95 % t-interval, paired by seed
    high: NDArray[np.float64]


def build(
    config: Config, scale: float, norm: str, rngs: list[np.random.Generator]
) -> list[Sequential]:
    """Build one network a generator, as a list of its `depth` layers.

    Parameters
    ----------
    config : Config
    scale : float
        One entry of `config.scales`, or any other factor.
    norm : {"none", "batch"}
    rngs : list of k numpy.random.Generator
        Sources of the weights.

    Returns
    -------
    list of Sequential
        Linear without bias, batch norm if asked for, activation function.

    Raises
    ------
    ValueError
        If there is no such activation function or norm.
    """
    if config.activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {set(ACTIVATIONS)}, got {config.activation}")
    if norm not in ("none", "batch"):
        raise ValueError(f"norm: expected none or batch, got {norm!r}")
    activation, gain = ACTIVATIONS[config.activation]
    init = scaled(scale * np.sqrt(gain / config.width))

    def block() -> Sequential:
        layers: list[Layer] = [Linear(config.width, config.width, rng=rngs, init=init, bias=False)]
        layers += [BatchNorm(config.width, seeds=len(rngs))] * (norm == "batch")
        return Sequential(*layers, activation())

    return [block() for _ in range(config.depth)]


def run(config: Config) -> Result:
    """Send random inputs forward and random gradients backward through every network.

    Parameters
    ----------
    config : Config

    Returns
    -------
    Result

    Notes
    -----
    Inputs and upstream gradients are standard normal. Scales have independent weights, norms
    share theirs.
    """
    measured = [
        [_measure(config, i, norm) for i in range(len(config.scales))] for norm in config.norms
    ]
    fields = (np.array([[arm[j] for arm in row] for row in measured]) for j in range(4))
    return Result(config, *fields)


def _measure(config: Config, scale_index: int, norm: str) -> tuple[NDArray[np.float64], ...]:
    rngs = [np.random.default_rng([seed, scale_index]) for seed in range(config.seeds)]
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
        per_weight = block.gradients["0.weight"].reshape(config.seeds, 1, -1)
        weight_gradients.append(_log_rms(per_weight))
    columns = (activations, gradients[::-1], weight_gradients[::-1], saturated)
    return tuple(np.stack(column, axis=1) for column in columns)


def _log_rms(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the examples of log10 of the root mean square, (k, m, d) -> (k,)."""
    mean_square = np.maximum(np.square(x).mean(axis=-1), np.finfo(x.dtype).tiny)
    return 0.5 * np.log10(mean_square).mean(axis=-1)


def judge(result: Result, confidence: float = 0.95) -> Verdict:
    """Judge the claim that batch norm keeps activations in a healthy range at initialization.

    The effect, for each scale, is how much smaller the drift of the activations is with the
    second norm than with the first: the absolute difference of log10 of the root mean square
    between the last and the first layer. `MARGIN` decides what counts.

    Parameters
    ----------
    result : Result
        Of two norms, the control first. Two equal norms are the negative control.
    confidence : float
        Coverage of the intervals.

    Returns
    -------
    Verdict
        One word if all scales agree, else "mixed".

    Raises
    ------
    ValueError
        If the result is not of two norms or of fewer than two seeds.
    """
    if result.activations.shape[0] != 2 or result.config.seeds < 2:
        raise ValueError(
            "result: expected two norms and at least two seeds, "
            f"got {result.config.norms} and {result.config.seeds}"
        )
    drift = np.abs(result.activations[..., -1] - result.activations[..., 1])  # (2, s, k)
    difference = drift[0] - drift[1]
    k = result.config.seeds
    effect = difference.mean(axis=-1)
    quantile = stats.t.ppf((1 + confidence) / 2, k - 1)
    half = quantile * difference.std(axis=-1, ddof=1) / np.sqrt(k)
    low, high = effect - half, effect + half
    words = {_word(*ends) for ends in zip(low, high, strict=True)}
    return Verdict(words.pop() if len(words) == 1 else "mixed", effect, low, high)


def _word(low: float, high: float) -> str:
    if low > MARGIN:
        return "supported"
    if high < -MARGIN:
        return "refuted"
    return "no effect" if low > -MARGIN and high < MARGIN else "mixed"
