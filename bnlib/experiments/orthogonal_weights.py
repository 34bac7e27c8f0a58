"""Whether gradients explode with batch norm at initialization, if the weights are orthogonal.

A plain network of equally wide layers, linear, batch norm, activation function, gets random inputs
and a random upstream gradient. The control has independent normal weights, for which theory
predicts an explosion. :doc:`/book/depth_and_signal_propagation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.progress import track
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

CLAIM = "With orthogonal weights, gradients do not explode with batch norm."
LESS = "With orthogonal weights, gradients grow less with batch norm than with normal ones."
SOURCE = "Meterez et al. (2024)"

LIMIT = 1.0
"""Decades that gradients may grow between the last and the first layer, a factor of 10.

What counts as an explosion over 100 layers in this chapter's other experiment; here at any depth,
as the claim is that of a bound.
"""

MARGIN = 1.0
"""Decades that count as an effect of the weights on the growth; as `LIMIT`."""

WEIGHTS: Mapping[str, layers.base.Initializer] = MappingProxyType(
    {
        "normal": lambda rng, shape, *fans: layers.scaled(fans[0] ** -0.5)(rng, shape, *fans),
        "orthogonal": layers.orthogonal,
    }
)
"""Name -> initializer; both keep the mean square of a signal. Batch norm does not see the scale."""

Weights = Literal["normal", "orthogonal", "normal again", "orthogonal again"]

ACTIVATIONS = MappingProxyType({"linear": None, **networks.ACTIVATIONS})
"""Name -> layer; "linear" is none."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    weights : pair of {"normal", "orthogonal"}
        The control first; with "again" behind it, from other seeds.
    activation : {"linear", "relu", "tanh", "sigmoid"}
        Activation function behind each batch norm; "linear" is none.
    width : int
        Units of each layer.
    ratio : float
        Examples of the mini-batch, for each unit of a layer.
    depth, seeds, first_seed : int
        Layers, independent replicas, and the first of their seeds.

    Raises
    ------
    ValueError
        If a name is unknown, or the mini-batch has less than three examples.
    """

    weights: tuple[Weights, ...] = ("normal", "orthogonal")
    activation: Literal["linear", "relu", "tanh", "sigmoid"] = "linear"
    width: int = 32
    ratio: float = 1.0
    depth: int = 1000
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        check_two_arms(self.weights, "weights")
        networks.check_arms(WEIGHTS, weights=self.weights)
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation: expected one of {[*ACTIVATIONS]}, got {self.activation!r}"
            )
        if self.m < 3:
            raise ValueError(
                f"ratio: expected a mini-batch of at least 3, got {self.m} = "
                f"{self.ratio:g} x {self.width}"
            )

    @property
    def m(self) -> int:
        """Examples of the mini-batch."""
        return round(self.ratio * self.width)


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    gradients : ndarray, (2, k, depth + 1)
        For each kind of weights, log10 of the root mean square of the gradient over units and
        examples; entry 0 is that of the input, the last one that of the output.
    """

    config: Config
    gradients: NDArray[np.float64]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Send inputs forward and gradients backward through the networks of both arms.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result
        Both arms have the same inputs and upstream gradients, all of them standard normal.
    """
    arms = track(config.weights, progress, "weights")
    return Result(config, np.stack([_measure(config, arm) for arm in arms]))


def _measure(config: Config, arm: str) -> NDArray[np.float64]:
    """Return the gradients of one arm, (k, depth + 1)."""
    weights, first = networks.arm(arm, config.first_seed)
    rngs = [np.random.default_rng(seed) for seed in range(first, first + config.seeds)]
    shape = config.m, config.width
    h, g = (np.stack([rng.standard_normal(shape) for rng in rngs]) for _ in "hg")
    blocks = []
    for _ in range(config.depth):
        blocks.append(_block(config, weights, rngs))
        h = blocks[-1](h)
    gradients = [_log_rms(g)]
    while blocks:
        g = blocks.pop().backward(g)
        gradients.append(_log_rms(g))
    return np.stack(gradients[::-1], axis=-1)


def _block(config: Config, weights: str, rngs: list[np.random.Generator]) -> layers.Sequential:
    width, activation = config.width, ACTIVATIONS[config.activation]
    linear = layers.Linear(width, width, rng=rngs, init=WEIGHTS[weights], bias=False)
    norm = layers.BatchNorm(width, seeds=config.seeds)
    return layers.Sequential(linear, norm, *([activation()] if activation else []))


def _log_rms(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * np.log10(np.square(x).mean(axis=(-2, -1)))


def judge(result: Result) -> Verdict:
    """Judge the claim that gradients do not explode with the second kind of weights.

    Parameters
    ----------
    result : Result

    Returns
    -------
    Verdict
        The effect, in decades, is how far the growth on the way back stays below `LIMIT`. With
        the arms exchanged, it is the control that has to fail: normal weights.
    """
    grown = _growth(result)[1]
    return paired_verdict(CLAIM, SOURCE, LIMIT - grown, np.zeros_like(grown), 0.0)


def judge_difference(result: Result) -> Verdict:
    """Judge whether gradients grow less with the second kind of weights than with the first.

    Parameters
    ----------
    result : Result
        Weights and the same again are the negative control.

    Returns
    -------
    Verdict
        The effect, in decades, is the growth with the first kind minus that with the second.
    """
    return paired_verdict(LESS, SOURCE, *_growth(result), MARGIN)


def _growth(result: Result) -> NDArray[np.float64]:
    """Decades from the output to the input, (2, k)."""
    return result.gradients[..., 0] - result.gradients[..., -1]
