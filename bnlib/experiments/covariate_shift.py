r"""Internal covariate shift by three definitions, with and without batch norm.

Measured in a deep linear network and in one with ReLU, over learning rates, and compared with what
the curvature of the loss predicts. :doc:`/book/internal_covariate_shift`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine import networks, training
from bnlib.experiments.engine.drift import (
    MARGIN,
    mean_gap,
    moment_drift,
    record_curvature,
    record_distance,
    record_gradient,
    record_moments,
)
from bnlib.experiments.records.verdict import Verdict, averaged, check_two_arms, paired_verdict
from bnlib.layers import Linear, Sequential

CLAIM = "Batch norm reduces internal covariate shift."
SOURCE = "Ioffe and Szegedy (2015)"
DEFINITIONS = ("moments", "distance", "gradient")


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    architectures : tuple of {"linear", "relu"}
        What stands between the linear layers: nothing (and Xavier initialization), or the
        activation function (He for a ReLU, else Xavier).
    depths : tuple of int
        Hidden layers of each architecture.
    norms : tuple of str
        What is compared, the control first.
    rates : tuple of float
        Learning rates, the same for both norms.
    weight_scale : float
        Factor on the hidden weights of the networks with batch norm. It does not change what they
        compute, but for epsilon.
    every : int
        Updates between two measurements.
    dataset, activation, optimizer, momentum, width, batch_size, steps, seeds, first_seed
        As in `bnlib.experiments.engine.networks.Config`.
    """

    architectures: tuple[Literal["linear", "relu"], ...] = ("linear", "relu")
    depths: tuple[int, ...] = (20, 8)
    norms: tuple[networks.Arm, ...] = ("none", "batch")
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.02, 0.1)
    weight_scale: float = 1.0
    dataset: str = "digits"
    activation: networks.Activation = "relu"
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    width: int = 32
    batch_size: int = 64
    steps: int = 60
    every: int = 30
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.architectures):
            raise ValueError(
                f"depths: expected one for each of {self.architectures}, got {self.depths}"
            )


@dataclass(frozen=True)
class Result:
    """What `run` measured, for a architectures, n norms, r learning rates and k seeds.

    All are NaN where the training diverged.

    Attributes
    ----------
    config : Config
    shift : mapping of str to ndarray, (a, n, r, k)
        Definition -> log10 of the shift, mean over the measurements and both layers.
    cosine : ndarray, (a, n, r, k)
        Cosine of the gradient before and after the other layers move, mean as above.
    curvature : ndarray, (a, n, r, k)
        log10 of what the shift of the gradient is, to first order, for a learning rate of 1.
    loss : ndarray, (a, n, r, k)
        Of the mini-batches, mean over the last ten steps.
    """

    config: Config
    shift: Mapping[str, NDArray[np.float64]]
    cosine: NDArray[np.float64]
    curvature: NDArray[np.float64]
    loss: NDArray[np.float64]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train the networks of all architectures, norms and rates, and measure.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar for each arm.

    Returns
    -------
    Result
        The same for the same config.
    """
    arms = [
        [_measure(config, architecture, depth, norm, progress) for norm in config.norms]
        for architecture, depth in zip(config.architectures, config.depths, strict=True)
    ]
    table = {name: np.array([[arm[name] for arm in row] for row in arms]) for name in arms[0][0]}
    shift = {name: table.pop(name) for name in DEFINITIONS}
    return Result(config, shift, **table)


def build(config: networks.Config, architecture: str, weight_scale: float) -> Sequential:
    """Build networks with scaled hidden weights, "linear" ones without activation functions."""
    network = networks.build(config)
    if config.norm == "batch":
        for layer in list(network)[:-1]:
            if isinstance(layer, Linear):
                layer.parameters["weight"] *= weight_scale
    if architecture == "linear":
        activation = networks.ACTIVATIONS[config.activation]
        return Sequential(*(layer for layer in network if not isinstance(layer, activation)))
    return network


def _measure(
    config: Config, architecture: str, depth: int, norm: str, progress: bool
) -> dict[str, NDArray[np.float64]]:
    init = "he" if (architecture, config.activation) == ("relu", "relu") else "xavier"
    arm = networks.Config.of(config, norm=norm, init=init, lr=config.rates, depth=depth)
    recorders = {
        "moments": record_moments,
        "distance": record_distance,
        "gradient": record_gradient,
        "curvature": record_curvature,
    }
    build_arm = partial(build, architecture=architecture, weight_scale=config.weight_scale)
    trained = training.train(arm, recorders, every=config.every, progress=progress, build=build_arm)
    records = trained.records
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # replicas that diverge
        columns = {
            "moments": np.log10(moment_drift(records["moments"])),
            "distance": np.log10(records["distance"]),
            "gradient": np.log10(records["gradient"][..., 0]),
            "cosine": records["gradient"][..., 1],
            "curvature": np.log10(records["curvature"]),
            "loss": trained.loss[:, -10:, None],
        }
    return {name: trained.by_rate(c.mean(axis=(1, 2))) for name, c in columns.items()}


def judge(result: Result) -> dict[str, Verdict]:
    """Judge the claim that batch norm reduces internal covariate shift, for each definition.

    Parameters
    ----------
    result : Result
        Of two norms. A norm and the same again are the negative control.

    Returns
    -------
    dict of str to Verdict
        For each definition and architecture. The effect, in decades, is how much smaller the
        shift is with the second norm: the mean of `judge_rate` over the rates at which neither
        diverged. Where these rates have different answers, it is "it depends on the rate".

    Raises
    ------
    ValueError
        If the result is not of two norms, or one diverged at every rate.
    """
    verdicts = {}
    for definition in DEFINITIONS:
        for row, architecture in enumerate(result.config.architectures):
            at = converged(result, row)
            none, batch = (result.shift[definition][row][n][at].mean(axis=0) for n in (0, 1))
            verdict = paired_verdict(CLAIM, SOURCE, none, batch, MARGIN)
            by_rate = {
                f"{result.config.rates[i]:g}": judge_rate(result, definition, row, i)
                for i in np.flatnonzero(at)
            }
            verdicts[f"{definition}, {architecture}"] = averaged(verdict, by_rate, "the rate")
    return verdicts


def judge_definitions(result: Result) -> dict[str, Verdict]:
    """Judge as `judge` does a result of one architecture; keys are the definitions."""
    if len(result.config.architectures) != 1:
        raise ValueError(f"architectures: expected one, got {result.config.architectures}")
    return dict(zip(DEFINITIONS, judge(result).values(), strict=True))


def judge_rate(result: Result, definition: str, row: int, rate: int) -> Verdict:
    """Judge the claim for one definition, architecture and learning rate.

    Parameters
    ----------
    result : Result
    definition : {"moments", "distance", "gradient"}
    row, rate : int
        Numbers of the architecture and of the learning rate in the config.

    Returns
    -------
    Verdict
        The effect, in decades, is the shift with the first norm over that with the second.
    """
    none, batch = result.shift[definition][row, :, rate]
    return paired_verdict(CLAIM, SOURCE, none, batch, MARGIN)


def converged(result: Result, row: int) -> NDArray[np.bool_]:
    """Find the learning rates at which no network of this architecture diverged or died, (r,)."""
    check_two_arms(result.config.norms)
    measured = [result.loss, *result.shift.values()]
    finite = np.isfinite([each[row] for each in measured]).all(axis=(0, 1, 3))
    if not finite.any():
        raise ValueError("result: expected a rate at which no network diverges")
    return finite


def judge_explanation(result: Result, row: int) -> Verdict:
    """Judge whether the norms differ less at equal predicted shifts than at equal rates.

    Parameters
    ----------
    result : Result
    row : int
        Number of the architecture.

    Returns
    -------
    Verdict
        The effect, in decades, is the mean absolute difference of the shift of the gradient at
        equal learning rates, minus the one at equal products of learning rate and curvature.

    Raises
    ------
    ValueError
        If the result is not of two norms, or in a seed their predictions do not overlap.
    """
    at = converged(result, row)
    shift = result.shift["gradient"][row]
    predicted = result.curvature[row] + np.log10(result.config.rates)[:, None]
    at_equal_rates = np.abs(shift[0, at] - shift[1, at]).mean(axis=0)
    at_equal_predictions = [
        mean_gap((predicted[0, at, k], shift[0, at, k]), (predicted[1, :, k], shift[1, :, k]))
        for k in range(result.config.seeds)
    ]
    claim = "The curvature explains in what the norms differ."
    return paired_verdict(claim, "this book", at_equal_rates, at_equal_predictions, MARGIN)
