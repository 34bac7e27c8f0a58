"""How deep a network may be and still be trained, at each arm's own best learning rate.

For each depth, norm and number of steps the learning rate is the one of the best accuracy on
validation examples; what is judged is the accuracy on test examples. By default on the digits, with
plain SGD. An effect that vanishes with more steps is one on speed.
:doc:`/book/depth_and_signal_propagation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib._validation import check_increasing
from bnlib.experiments.engine import networks, rates
from bnlib.experiments.engine.replicas import build_norm
from bnlib.experiments.engine.training import (
    record_test_accuracy,
    record_validation_accuracy,
    train,
)
from bnlib.experiments.records.verdict import (
    Between,
    Verdict,
    case_name,
    check_two_arms,
    paired_verdict,
)

TARGET = 0.75
"""Accuracy on the digits at which a network counts as trained.

Far from chance (0.1) and from the best (0.97). Chosen, like `MARGIN` and the rates, after a pilot
with four of the seeds.
"""

CLAIM = "With batch norm, deeper networks can be trained."
SOURCE = "He et al. (2016)"

FACTORS = "the network", "the number of steps"

MARGIN = 0.5
"""Doublings of the depth that count as an effect.

Half a step of a grid of powers of two: less would rest on the interpolation between its points.
"""

VALIDATION = 297
"""Training examples of the digits that are not trained on, but choose the learning rate."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    case : {"relu", "sigmoid", "tanh", "residual", "residual scaled"}
        Plain networks with He's or, for sigmoid and tanh, Xavier's weights; residual networks with
        He's weights, or with those divided by the root of the depth.
    norms : tuple of str
        Networks to compare, the control first; both have the same weights and data.
    depths : tuple of int
        Numbers of hidden layers or of residual blocks, increasing.
    rates : tuple of float
        Learning rates to choose from.
    budgets : tuple of int
        Numbers of steps after which the networks are compared, increasing.
    target, validation : float and int
        Accuracy at which a network counts as trained, and the training examples that are not
        trained on but choose the learning rate.
    dataset, optimizer, momentum, width, batch_size, seeds, first_seed
        As in `networks.Config`.
    """

    case: Literal["relu", "sigmoid", "tanh", "residual", "residual scaled"] = "relu"
    norms: tuple[networks.Arm, ...] = ("none", "batch")
    depths: tuple[int, ...] = (2, 4, 8, 16, 32)
    rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    budgets: tuple[int, ...] = (200,)
    target: float = TARGET
    validation: int = VALIDATION
    dataset: str = "digits"
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    width: int = 32
    batch_size: int = 32
    seeds: int = 16
    first_seed: int = 0


@dataclass(frozen=True)
class Result:
    """What `run` measured, for b budgets, n norms, t depths, r rates and k seeds.

    Attributes
    ----------
    config : Config
    accuracy : ndarray, (b, n, t, r, k)
        On the test examples in eval mode, after the steps of each budget; 0 where the training
        diverged.
    validation : ndarray, (b, n, t, r, k)
        The same on the validation examples.
    """

    config: Config
    accuracy: NDArray[np.float64]
    validation: NDArray[np.float64]

    @property
    def best(self) -> NDArray[np.int64]:
        """Index of the rate of the best mean validation accuracy, (b, n, t)."""
        return rates.best(-self.validation.mean(axis=-1), axis=-1)

    @property
    def at_best(self) -> NDArray[np.float64]:
        """Test accuracy at the rate that `best` names, (b, n, t, k)."""
        chosen = np.take_along_axis(self.accuracy, self.best[..., None, None], axis=-2)
        return chosen[..., 0, :]

    @property
    def doublings(self) -> Between:
        """log2 of the depth at which each seed's accuracy first falls below the target, (b, n, k).

        Interpolated between depths. Where it is below at all of them, or at none, the grid bounds
        it on one side only.
        """
        grid = self.config.depths, self.config.target
        crossings = np.array([[_crossing(*grid, arm) for arm in arms] for arms in self.at_best])
        return Between(*np.moveaxis(crossings, -1, 0))


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train the networks of every norm, depth, rate and seed.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar for each norm and depth.

    Returns
    -------
    Result
        In single precision: the last digits depend on the processor.

    Raises
    ------
    ValueError
        If there is no such case or norm, or the depths or the budgets do not increase.
    """
    if config.case not in BUILDERS:
        raise ValueError(f"case: expected one of {[*BUILDERS]}, got {config.case!r}")
    for name in ("depths", "budgets"):
        check_increasing(name, getattr(config, name))
    measured = np.array(
        [[_measure(config, norm, depth, progress) for depth in config.depths]
         for norm in config.norms]
    )  # fmt: skip
    accuracy, validation = np.moveaxis(measured, (2, 3), (0, 1))  # (2, b, n, t, r, k)
    return Result(config, accuracy, validation)


def judge(result: Result) -> dict[tuple[str, str], Verdict]:
    """Judge the claim that with batch norm deeper networks can be trained.

    Parameters
    ----------
    result : Result
        Of two norms, the control first. A norm and the same again are the negative control.

    Returns
    -------
    dict of (str, str) to Verdict
        By the levels of `FACTORS`. The effect, in doublings of the depth, is `Result.doublings` of
        the second norm minus of the first, within the bounds that the grid sets.

    Raises
    ------
    ValueError
        If the result is not of two norms, or has one seed only.
    """
    check_two_arms(result.config.norms)
    doublings = result.doublings
    verdicts = {}
    for i, steps in enumerate(result.config.budgets):
        control, treatment = (doublings.at(i, n) for n in (0, 1))
        case = result.config.case, f"{steps} steps"
        claim = f"{CLAIM[:-1]}: {case_name(case)}."
        verdicts[case] = paired_verdict(claim, SOURCE, treatment, control, MARGIN)
    return verdicts


def _measure(config: Config, norm: str, depth: int, progress: bool) -> NDArray[np.float64]:
    """Return both accuracies, (2, b, r, k)."""
    data = networks.load(config.dataset)
    saturating = config.case in ("sigmoid", "tanh")
    every = gcd(*config.budgets)
    trained = train(
        networks.Config.of(
            config,
            depth=depth,
            norm=norm,
            activation=config.case if saturating else "relu",
            init="xavier" if saturating else "he",
            init_scale=depth**-0.5 if config.case == "residual scaled" else 1.0,
            lr=config.rates,
            steps=config.budgets[-1],
            n_train=len(data.x_train) - config.validation,
            dtype="float32",
        ),
        {"test": record_test_accuracy, "validation": record_validation_accuracy},
        every=every,
        progress=progress,
        build=BUILDERS[config.case],
    )
    after = [steps // every for steps in config.budgets]
    accuracies = [
        [trained.by_rate(trained.records[name][:, i]) for i in after]
        for name in ("test", "validation")
    ]
    return np.nan_to_num(accuracies, nan=0.0)


def build_residual(config: networks.Config) -> layers.Sequential:
    """Build residual networks: each block adds norm, ReLU and linear to its input.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
        Its initial scale is that of the weights in the blocks; the first and the last layer have
        He's.

    Returns
    -------
    Sequential
        Linear, `depth` blocks, norm, ReLU, linear.
    """
    data, dtype = networks.load(config.dataset), np.dtype(config.dtype)
    rngs = networks.replica_generators(config, networks.WEIGHTS)
    d, classes = config.width, int(data.y_train.max()) + 1

    def normalized() -> list[layers.Layer]:
        norm = build_norm(config.norm, d, config.groups, config.replicas, dtype)
        return [*norm, networks.ACTIVATIONS[config.activation]()]

    def block() -> layers.Residual:
        init = networks.initializer(config)
        linear = layers.Linear(d, d, rng=rngs, init=init, dtype=dtype)
        return layers.Residual(layers.Sequential(*normalized(), linear))

    first = layers.Linear(data.x_train.shape[1], d, rng=rngs, dtype=dtype)
    blocks = [block() for _ in range(config.depth)]
    last = layers.Linear(d, classes, rng=rngs, dtype=dtype)
    return layers.Sequential(first, *blocks, *normalized(), last)


def _crossing(
    depths: tuple[int, ...], target: float, accuracy: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bounds of log2 of the depth where accuracies, (t, k), first fall below the target, (k, 2)."""
    x = np.log2(depths)
    crossings = []
    for y in accuracy.T:
        below = np.flatnonzero(y < target)
        if len(below) == 0:
            crossings.append((x[-1], np.inf))
        elif below[0] == 0:
            crossings.append((-np.inf, x[0]))
        else:
            i = below[0]
            share = (y[i - 1] - target) / (y[i - 1] - y[i])
            crossings.append((x[i - 1] + share * (x[i] - x[i - 1]),) * 2)
    return np.array(crossings)


BUILDERS: Mapping[str, Callable[[networks.Config], layers.Sequential]] = MappingProxyType(
    {
        "relu": networks.build,
        "sigmoid": networks.build,
        "tanh": networks.build,
        "residual": build_residual,
        "residual scaled": build_residual,
    }
)
"""Case -> builder of its networks."""
