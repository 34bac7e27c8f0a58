"""Train mode and eval mode of the same networks: consistent predictions, stale statistics.

For :doc:`/book/inference`. One small network is trained on the digits, once for each seed. Beside
the training, running statistics are kept with several momenta: they do not change the training,
so that all of them see the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib import datasets, layers
from bnlib.experiments.verdict import Verdict, paired_verdict
from bnlib.functional import RunningStatistics

Array = NDArray[np.floating]
TRAIN, RECALIBRATED = "train mode", "recalibrated"

MARGIN = 0.01
"""Smallest share of changed predictions that counts: a hundredth, about 4 of 384 images."""

_WEIGHTS, _ORDER, _RECALIBRATION, _TEST = range(4)  # what a stream of random numbers is for


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norm : {"batch", "none"}
        "none" leaves batch normalization out: the negative control.
    seeds, steps, batch_size : int
        Networks, steps of gradient descent, examples of a mini-batch in training.
    hidden : tuple of int
        Units of each hidden layer.
    lr : float
        Learning rate of plain gradient descent.
    momenta : tuple of float or None
        Momenta of the running statistics, as in PyTorch; None is the cumulative average.
    checkpoints : tuple of int
        Steps after which the accuracy is measured, at most `steps`.
    recalibration_batches : int
        Training mini-batches that recalibrated statistics average.
    test_sizes : tuple of int
        Sizes of the mini-batches of test images; each divides `n_test`.
    shuffles : int
        Partitions of the test images into mini-batches, for each size.
    n_test : int
        Test images; a multiple of `batch_size`.
    """

    norm: Literal["batch", "none"] = "batch"
    seeds: int = 16
    steps: int = 300
    batch_size: int = 16
    hidden: tuple[int, ...] = (64, 64)
    lr: float = 0.1
    momenta: tuple[float | None, ...] = (0.1, 0.01, 0.001, 0.99, None)
    checkpoints: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 300)
    recalibration_batches: int = 40
    test_sizes: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128)
    shuffles: int = 3
    n_test: int = 384


@dataclass(frozen=True)
class Result:
    """What `run` measured, for each of k seeds.

    Attributes
    ----------
    config : Config
    accuracy : mapping of str, float or None to ndarray of shape (k, t)
        Test accuracy after each checkpoint: in "train mode" (mini-batches of the training size),
        and in eval mode with "recalibrated" statistics and with those of each momentum.
    changed : mapping of str to ndarray of shape (k, s)
        Share of the test images whose predicted class differs between two partitions of the test
        set into mini-batches, for each test size: in "train mode" and in "eval mode" (first
        momentum), after the last step.
    """

    config: Config
    accuracy: Mapping[str | float | None, Array]
    changed: Mapping[str, Array]


def run(config: Config = Config()) -> Result:
    """Train the networks and measure both modes.

    Parameters
    ----------
    config : Config

    Returns
    -------
    Result
        The same for the same config.

    Raises
    ------
    ValueError
        A test size or the batch size does not divide `n_test`, or a checkpoint is not in
        1 ... `steps`.
    """
    _check(config)
    data = datasets.digits(n_test=config.n_test)
    network = _network(config)
    normalizers = [layer for layer in network if isinstance(layer, layers.BatchNorm)]
    optimizer = layers.SGD(network, config.lr)
    averages = {momentum: _initial(normalizers) for momentum in config.momenta}
    order, rngs = _batches(config, len(data.x_train), _ORDER), _generators(config, _TEST)
    accuracy: dict[str | float | None, list[Array]] = {
        name: [] for name in (TRAIN, RECALIBRATED, *averages)
    }
    for step in range(1, config.steps + 1):
        i = next(order)
        _, dlogits = layers.softmax_cross_entropy(network(data.x_train[i]), data.y_train[i])
        network.backward(dlogits)
        optimizer.step()
        for momentum, statistics in averages.items():
            _average(statistics, normalizers, config.batch_size, momentum)
        if step in config.checkpoints:
            partition = _partition(config, config.batch_size, rngs)
            predicted = _predict(network, data.x_test, partition)
            accuracy[TRAIN].append((predicted == data.y_test).mean(axis=-1))
            recalibrated = _recalibrate(network, normalizers, data.x_train, config)
            for name, statistics in {RECALIBRATED: recalibrated, **averages}.items():
                with _eval_mode(network, normalizers, statistics):
                    predicted = network(_shared(data.x_test, config)).argmax(axis=-1)
                accuracy[name].append((predicted == data.y_test).mean(axis=-1))
    changed = {TRAIN: _changed(network, data.x_test, config)}
    with _eval_mode(network, normalizers, averages[config.momenta[0]]):
        changed["eval mode"] = _changed(network, data.x_test, config)
    return Result(config, {name: np.stack(a, axis=-1) for name, a in accuracy.items()}, changed)


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
    train, evaluation = result.changed[TRAIN][:, at], result.changed["eval mode"][:, at]
    claim = "Running averages make predictions consistent."
    verdict = paired_verdict(claim, "Ioffe and Szegedy (2015)", train, evaluation, MARGIN)
    if result.changed["eval mode"].any():
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


def _check(config: Config) -> None:
    for size in (config.batch_size, *config.test_sizes):
        if config.n_test % size:
            raise ValueError(f"test_sizes, batch_size: expected divisors of n_test, got {size}")
    if not all(1 <= step <= config.steps for step in config.checkpoints):
        raise ValueError(f"checkpoints: expected steps of 1 ... {config.steps}")


def _generators(config: Config, purpose: int) -> list[np.random.Generator]:
    return [np.random.default_rng([purpose, seed]) for seed in range(config.seeds)]


def _network(config: Config) -> layers.Sequential:
    """Build the networks; momentum 1 keeps the statistics of the last mini-batch, for all uses."""
    rngs, blocks, width = _generators(config, _WEIGHTS), [], 64
    for units in config.hidden:
        blocks.append(layers.Linear(width, units, rng=rngs))
        if config.norm == "batch":
            blocks.append(layers.BatchNorm(units, momentum=1.0, unbiased=False, seeds=config.seeds))
        blocks.append(layers.ReLU())
        width = units
    return layers.Sequential(*blocks, layers.Linear(width, 10, rng=rngs))


def _batches(config: Config, n: int, purpose: int) -> Iterator[NDArray[np.int64]]:
    rngs = _generators(config, purpose)
    while True:
        yield from datasets.minibatches(n, config.batch_size, rngs, drop_last=True)


def _initial(normalizers: Sequence[layers.BatchNorm]) -> list[RunningStatistics]:
    return [RunningStatistics.initial(layer.running.mean.shape) for layer in normalizers]


def _average(
    statistics: list[RunningStatistics],
    normalizers: Sequence[layers.BatchNorm],
    m: int,
    momentum: float | None,
) -> None:
    for average, layer in zip(statistics, normalizers, strict=True):
        average.update(layer.running.mean, layer.running.var, m, momentum=momentum)


def _recalibrate(
    network: layers.Sequential,
    normalizers: Sequence[layers.BatchNorm],
    x: Array,
    config: Config,
) -> list[RunningStatistics]:
    """Average the batch statistics of training mini-batches at fixed weights."""
    statistics, order = _initial(normalizers), _batches(config, len(x), _RECALIBRATION)
    for _ in range(config.recalibration_batches):
        network(x[next(order)])
        _average(statistics, normalizers, config.batch_size, None)
    return statistics


@contextmanager
def _eval_mode(
    network: layers.Sequential,
    normalizers: Sequence[layers.BatchNorm],
    statistics: list[RunningStatistics],
) -> Iterator[None]:
    """Switch to eval mode with these statistics, and back: training must not update them."""
    own = [layer.running for layer in normalizers]
    for average, layer in zip(statistics, normalizers, strict=True):
        layer.running = average
    network.eval()
    try:
        yield
    finally:
        network.train()
        for running, layer in zip(own, normalizers, strict=True):
            layer.running = running


def _shared(x: Array, config: Config) -> Array:
    return np.broadcast_to(x, (config.seeds, *x.shape))


def _partition(
    config: Config, size: int, rngs: Sequence[np.random.Generator]
) -> list[NDArray[np.int64]]:
    return datasets.minibatches(config.n_test, size, rngs, drop_last=True)


def _predict(
    network: layers.Sequential, x: Array, partition: list[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return the predicted classes (k, n), mini-batch by mini-batch."""
    predicted = np.concatenate([network(x[i]).argmax(axis=-1) for i in partition], axis=1)
    back = np.argsort(np.concatenate(partition, axis=1), axis=1)
    return np.take_along_axis(predicted, back, axis=1)


def _changed(network: layers.Sequential, x: Array, config: Config) -> Array:
    rngs, shares = _generators(config, _TEST), []
    for size in config.test_sizes:
        runs = [
            _predict(network, x, _partition(config, size, rngs)) for _ in range(config.shuffles)
        ]
        shares.append(
            np.mean([(one != other).mean(axis=1) for one, other in pairwise(runs)], axis=0)
        )
    return np.stack(shares, axis=-1)
