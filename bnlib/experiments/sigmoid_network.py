"""The sigmoid network of the first paper on batch norm: its figure, and a fairer comparison.

Three hidden layers of 100 units, as in Figure 1 of Ioffe and Szegedy (2015), on smaller images.
:doc:`/book/internal_covariate_shift`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine import networks, rates
from bnlib.experiments.engine.drift import MARGIN, inputs, moment_drift, record_moments
from bnlib.experiments.engine.training import State, record_test_accuracy, train
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict
from bnlib.measure import activation_percentiles

CLAIM = "Batch norm keeps the distributions in a sigmoid network more stable."
ACCURACY_CLAIM = "Batch norm makes the sigmoid network more accurate."
SOURCE = "Ioffe and Szegedy (2015)"

ACCURACY_MARGIN = 0.02
"""Difference of test accuracies that counts.

A little more than the standard error of the difference of two accuracies near 0.95 on 397 images.
"""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of str
        What is compared, the control first.
    init, init_scale : str, float
        Initialization of the weights, as in `bnlib.experiments.engine.networks.Config`. The default
        is a Gaussian with standard deviation 0.1.
    rates : tuple of float
        Learning rates to choose from, for each norm by itself: the one with the smallest loss on
        the mini-batches of the last tenth of the training.
    tuning_seeds : int
        Seeds that this choice is made on, if there is one; they are not among the others.
    depth, width, batch_size : int
        Hidden layers, units in each, and examples of a mini-batch.
    steps, every, early : int
        Updates, updates between two measurements, and the measured step that counts as early.
    seeds, first_seed : int
        As in `bnlib.experiments.engine.networks.Config`.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    init: networks.Initialization = "normal"
    init_scale: float = 0.1
    rates: tuple[float, ...] = (0.5,)
    tuning_seeds: int = 4
    depth: int = 3
    width: int = 100
    batch_size: int = 60
    steps: int = 600
    every: int = 50
    early: int = 100
    seeds: int = 16
    first_seed: int = 0


@dataclass(frozen=True)
class Result:
    """What `run` measured, for n norms and k seeds.

    Attributes
    ----------
    config : Config
    steps : ndarray of int, (t,)
        When it was measured.
    rates : ndarray, (n,)
        The learning rate of each norm.
    accuracy : ndarray, (n, k, t)
        On the test images, in eval mode.
    percentiles : ndarray, (n, k, t, 3)
        15th, 50th and 85th percentile of the input of the first sigmoid of the last hidden layer.
    drift : ndarray, (n, k)
        log10 of the drift of the moments between two measurements, mean over these and the layers.
    """

    config: Config
    steps: NDArray[np.int64]
    rates: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    percentiles: NDArray[np.float64]
    drift: NDArray[np.float64]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Choose the learning rate of each norm, train its networks, and measure.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar for each norm.

    Returns
    -------
    Result
        The same for the same config and machine; the training is in float32.

    Raises
    ------
    ValueError
        If `early` is not a measured step.
    """
    if config.early % config.every or not 0 <= config.early <= config.steps:
        raise ValueError(f"early: expected a measured step, got {config.early}")
    arms = [_train(config, norm, progress) for norm in config.norms]
    steps = np.arange(0, config.steps + 1, config.every)
    return Result(config, steps, *map(np.array, zip(*arms, strict=True)))


def _train(config: Config, norm: str, progress: bool) -> tuple[float | NDArray, ...]:
    """Return the learning rate, the accuracy, the percentiles and the drift."""
    rate = _best_rate(config, norm) if len(config.rates) > 1 else config.rates[0]
    recorders = {
        "accuracy": record_test_accuracy,
        "moments": record_moments,
        "percentiles": _record_percentiles,
    }
    arm = replace(_arm(config, norm), lr=rate)
    records = train(arm, recorders, every=config.every, progress=progress).records
    drift = np.log10(moment_drift(records["moments"])).mean(axis=(1, 2))
    return rate, records["accuracy"], records["percentiles"], drift


def _arm(config: Config, norm: str) -> networks.Config:
    return networks.Config.of(
        config, activation="sigmoid", norm=norm, lr=config.rates, dtype="float32"
    )


def _best_rate(config: Config, norm: str) -> float:
    arm = _arm(config, norm)
    others = {"seeds": config.tuning_seeds, "first_seed": arm.first_seed + arm.seeds}
    tried = train(replace(arm, **others))
    loss = tried.by_rate(tried.loss[:, -max(1, config.steps // 10) :]).mean(axis=(1, 2))
    return config.rates[rates.best(loss)]


def _record_percentiles(state: State) -> NDArray[np.float64]:
    last = inputs(copy.deepcopy(state.network), state)[-1]
    return activation_percentiles(last)[..., 0].T


def judge(result: Result) -> dict[str, Verdict]:
    """Judge the stability of the distributions, and the accuracy early and at the end.

    Parameters
    ----------
    result : Result
        Of two norms. A norm and the same again are the negative control.

    Returns
    -------
    dict of str to Verdict
        "moments": how many decades smaller the drift is with the second norm. "early" and "end":
        the test accuracy with the second norm minus the one with the first.

    Raises
    ------
    ValueError
        If the result is not of two norms.
    """
    check_two_arms(result.config.norms)
    verdicts = {"moments": paired_verdict(CLAIM, SOURCE, *result.drift, MARGIN)}
    for name, t in (("early", result.config.early // result.config.every), ("end", -1)):
        control, treatment = result.accuracy[..., t]
        verdict = paired_verdict(ACCURACY_CLAIM, SOURCE, treatment, control, ACCURACY_MARGIN)
        verdicts[name] = replace(verdict, claim=f"{ACCURACY_CLAIM[:-1]} ({name}).")
    return verdicts
