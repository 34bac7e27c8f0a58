"""Train mode and eval mode of the same networks: consistent predictions, stale statistics.

For :doc:`/book/inference`. One small network is trained on the digits, once for each seed. Beside
the training, running statistics are kept with several momenta: they do not change the training,
so that all of them see the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib import datasets, layers
from bnlib.experiments.engine import networks, training
from bnlib.experiments.engine import statistics_modes as modes
from bnlib.experiments.records.verdict import Verdict, paired_verdict

Array = NDArray[np.floating]
TRAIN, EVAL, RECALIBRATED = "train mode", "eval mode", "recalibrated"

MARGIN = 0.01
"""Smallest share of changed predictions that counts: a hundredth, about 4 of 384 images."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norm : {"batch", "none"}
        "none" leaves batch normalization out: the negative control.
    seeds, steps, batch_size, depth, width, lr
        As in `bnlib.experiments.engine.networks.Config`.
    momenta : tuple of float or None
        Momenta of the running statistics, as in PyTorch; None is the cumulative average.
    checkpoints : tuple of int
        Steps at which the accuracy is measured, 0 to `steps`: after so many updates. The running
        statistics have then taken in one mini-batch more.
    recalibration_batches : int
        Training mini-batches that recalibrated statistics average.
    test_sizes : tuple of int
        Sizes of the mini-batches of test images; each divides `n_test`.
    shuffles : int
        Partitions of the test images into mini-batches, for each size.
    n_test : int
        Test images; a multiple of `batch_size`.
    dataset, activation, optimizer, momentum, first_seed
        As in `bnlib.experiments.engine.networks.Config`.

    Raises
    ------
    ValueError
        A test size or the batch size does not divide `n_test`, or a checkpoint is not in
        0 ... `steps`.
    """

    norm: Literal["batch", "none"] = "batch"
    seeds: int = 16
    steps: int = 300
    batch_size: int = 16
    depth: int = 2
    width: int = 64
    lr: float = 0.1
    momenta: tuple[float | None, ...] = (0.1, 0.01, 0.001, 0.99, None)
    checkpoints: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 300)
    recalibration_batches: int = 40
    test_sizes: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128)
    shuffles: int = 3
    n_test: int = 384
    dataset: str = "digits"
    activation: networks.Activation = "relu"
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    first_seed: int = 0

    def __post_init__(self) -> None:
        for size in (self.batch_size, *self.test_sizes):
            if self.n_test % size:
                raise ValueError(f"test_sizes, batch_size: expected divisors of n_test, got {size}")
        if not all(0 <= step <= self.steps for step in self.checkpoints):
            raise ValueError(f"checkpoints: expected steps of 0 ... {self.steps}")


@dataclass(frozen=True)
class Result:
    """What `run` measured, for each of k seeds.

    Attributes
    ----------
    config : Config
    accuracy : mapping of str, float or None to ndarray of shape (k, t)
        Test accuracy at each checkpoint: in "train mode" (mini-batches of the training size),
        and in eval mode with "recalibrated" statistics and with those of each momentum.
    changed : mapping of str to ndarray of shape (k, s)
        Share of the test images whose predicted class differs between two partitions of the test
        set into mini-batches, for each test size: in "train mode" and in "eval mode" (first
        momentum), after the last step.
    """

    config: Config
    accuracy: Mapping[str | float | None, Array]
    changed: Mapping[str, Array]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train the networks and measure both modes.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result
        The same for the same config.

    Raises
    ------
    ValueError
        There are fewer than `n_test` test images.
    """
    available = len(networks.load(config.dataset).x_test)
    if config.n_test > available:
        raise ValueError(f"n_test: expected at most {available}, got {config.n_test}")
    record = {"accuracy": partial(_accuracy, config), "changed": partial(_changed, config)}
    trained = training.train(
        networks.Config.of(config),
        record,
        progress=progress,
        build=partial(_build, config),
    )
    accuracy = trained.records["accuracy"][:, config.checkpoints]  # (k, t, modes)
    changed = trained.records["changed"][:, -1]  # (k, 2, s)
    names = (TRAIN, RECALIBRATED, *config.momenta)
    return Result(
        config,
        {name: accuracy[..., i] for i, name in enumerate(names)},
        {name: changed[:, i] for i, name in enumerate((TRAIN, EVAL))},
    )


def judge(result: Result) -> Verdict:
    """Judge the claim that running averages make predictions consistent.

    Parameters
    ----------
    result : Result
        Of any config; with `norm="none"` both modes are the same and the answer is "no effect".

    Returns
    -------
    Verdict
        The effect is the share of predictions that change with the mini-batch, in train mode
        minus in eval mode, at the test size next to the training size. As consistency is a
        statement about all predictions, one that changes in eval mode refutes it.
    """
    config = result.config
    at = int(np.argmin(np.abs(np.subtract(config.test_sizes, config.batch_size))))
    train, evaluation = result.changed[TRAIN][:, at], result.changed[EVAL][:, at]
    claim = "Running averages make predictions consistent."
    verdict = paired_verdict(claim, "Ioffe and Szegedy (2015)", train, evaluation, MARGIN)
    if result.changed[EVAL].any():
        verdict = replace(verdict, answer="refuted")
    return verdict


def judge_staleness(
    result: Result, name: str | float | None, step: int, margin: float = MARGIN
) -> Verdict:
    """Judge whether statistics lower the accuracy, compared with recalibrated ones.

    Parameters
    ----------
    result : Result
    name : float or None or str
        Key of `result.accuracy`: a momentum, None for the cumulative average, or "train mode".
    step : int
        One of the checkpoints.
    margin : float
        Smallest difference of accuracies that counts; the same hundredth as in `judge`.

    Returns
    -------
    Verdict
        The effect is the accuracy with recalibrated statistics minus the one of `name`.
    """
    at = result.config.checkpoints.index(step)
    recalibrated, other = result.accuracy[RECALIBRATED][:, at], result.accuracy[name][:, at]
    claim = f"At step {step}, statistics of {name} lower the accuracy."
    return paired_verdict(claim, "Wu and Johnson (2021)", recalibrated, other, margin)


def _build(config: Config, trained: networks.Config) -> layers.Sequential:
    return modes.track(networks.build(trained), config.momenta)


def _accuracy(config: Config, state: training.State) -> Array:
    """Measure the test accuracy in every mode at the checkpoints, (k, modes)."""
    if state.step not in config.checkpoints:
        return np.full((config.seeds, 2 + len(config.momenta)), np.nan)
    rngs = networks.generators(state.config, networks.RECALIBRATION)
    batches = datasets.minibatches(len(state.data.x_train), config.batch_size, rngs, drop_last=True)
    batches = islice(cycle(batches), config.recalibration_batches)
    recalibrated = modes.recalibrate(state.network, (state.data.x_train[i] for i in batches))
    copies = [deepcopy(state.network), recalibrated]
    copies += [modes.in_eval_mode(state.network, momentum) for momentum in config.momenta]
    x, y = state.data.x_test[: config.n_test], state.data.y_test[: config.n_test]
    (partition,) = _partitions(config, state, config.batch_size, 1)
    right = [modes.predict(network, x, partition) == y for network in copies]
    return np.mean(right, axis=-1).T


def _changed(config: Config, state: training.State) -> Array:
    """Measure the share of changed predictions after the last step, (k, 2, sizes)."""
    shares = np.full((config.seeds, 2, len(config.test_sizes)), np.nan)
    if state.step < config.steps:
        return shares
    x = state.data.x_test[: config.n_test]
    copies = deepcopy(state.network), modes.in_eval_mode(state.network, config.momenta[0])
    for j, size in enumerate(config.test_sizes):
        partitions = _partitions(config, state, size, config.shuffles)
        for i, network in enumerate(copies):
            runs = [modes.predict(network, x, partition) for partition in partitions]
            changes = [(one != other).mean(axis=1) for one, other in pairwise(runs)]
            shares[:, i, j] = np.mean(changes, axis=0)
    return shares


def _partitions(
    config: Config, state: training.State, size: int, number: int
) -> list[list[NDArray[np.int64]]]:
    """Split the test images at random into mini-batches, so many times."""
    rngs = networks.generators(state.config, networks.TEST)
    return [datasets.minibatches(config.n_test, size, rngs, drop_last=True) for _ in range(number)]
