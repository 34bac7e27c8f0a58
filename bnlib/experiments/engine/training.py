"""Train one plain network many times at once: every seed with every learning rate.

The runs are the replicas of a leading axis, learning rates first: replica i has rate i // seeds and
seed i % seeds. What a replica draws depends on its seed alone, so that all rates, and all configs
with the same layer sizes, start from the same weights and see the same mini-batches: they are
paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnlib import datasets, layers
from bnlib.experiments.engine.networks import (
    ORDER,
    Config,
    Data,
    build,
    build_optimizer,
    generators,
    load_replicas,
)
from bnlib.experiments.engine.progress import track
from bnlib.experiments.engine.replicas import silence


@dataclass(frozen=True)
class State:
    """What a recorder sees: the networks between the backward pass and the update.

    Attributes
    ----------
    config : bnlib.experiments.engine.networks.Config
    step : int
        Updates so far.
    network : Sequential
        In train mode, with the gradients of this mini-batch.
    data : bnlib.experiments.engine.networks.Data
    x, labels : ndarray, (replicas, m, d) and (replicas, m)
        The mini-batch of each replica.
    logits, loss : ndarray, (replicas, m, c) and (replicas,)
        The output for it; its mean cross-entropy, NaN in a replica that has diverged.
    """

    config: Config
    step: int
    network: layers.Sequential
    data: Data
    x: NDArray[np.floating]
    labels: NDArray[np.int64]
    logits: NDArray[np.floating]
    loss: NDArray[np.floating]


Recorder = Callable[[State], NDArray]


@dataclass(frozen=True)
class Result:
    """What was recorded; replica i has learning rate i // seeds and seed i % seeds.

    Attributes
    ----------
    config : bnlib.experiments.engine.networks.Config
    loss : ndarray, (replicas, steps + 1)
        Loss on the mini-batch of each step, before its update; after the last update one more.
    steps : ndarray of int, (t,)
        Steps of the records.
    records : mapping of str to ndarray, (replicas, t, ...)
        What each recorder returned.
    diverged : ndarray of int, (replicas,)
        The first step whose loss is not finite, or -1. From there on the loss and the records of
        the replica are NaN.
    """

    config: Config
    loss: NDArray[np.floating]
    steps: NDArray[np.int64]
    records: Mapping[str, NDArray[np.floating]]
    diverged: NDArray[np.int64]

    def by_rate(self, array: NDArray) -> NDArray:
        """Split the replicas of an array, (replicas, ...) -> (rates, seeds, ...)."""
        return array.reshape(len(self.config.rates), self.config.seeds, *array.shape[1:])


def reshuffled(config: Config, data: Data) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of the mini-batches, (replicas, m), drawn anew in every epoch.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
        A seed has the same mini-batches at all learning rates.
    data : bnlib.experiments.engine.networks.Data

    Yields
    ------
    ndarray of int, (replicas, m)
    """
    rngs, n = generators(config, ORDER), data.y_train.shape[-1]
    while True:
        for i in datasets.minibatches(n, config.batch_size, rngs, drop_last=True):
            yield np.tile(i, (len(config.rates), 1))


def train(
    config: Config,
    record: Mapping[str, Recorder] | None = None,
    *,
    every: int = 1,
    progress: bool = False,
    build: Callable[[Config], layers.Sequential] = build,
    optimizer: Callable[[Config, layers.Sequential], layers.SGD | layers.Adam] = build_optimizer,
    order: Callable[[Config, Data], Iterator[NDArray[np.int64]]] = reshuffled,
    data: Data | None = None,
) -> Result:
    """Train all replicas together, and record.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
    record : mapping of str to recorder, optional
        A recorder is a function of the `State` that returns one number or array a replica,
        (replicas, ...), of the same shape each time. It may run the networks, but must leave their
        parameters and their mode as they were; in train mode a forward pass moves the running
        statistics.
    every : int
        Record at step 0 and each `every` steps, up to and including `steps`.
    progress : bool
        Whether to show a progress bar.
    build : callable
        Config -> network, with one entry a replica on its leading axis.
    optimizer : callable
        (config, network) -> optimizer.
    order : callable
        (config, data) -> iterator without end over the indices of mini-batches, (replicas, m).
    data : bnlib.experiments.engine.networks.Data, optional
        By default those of the config (:func:`~bnlib.experiments.engine.networks.load_replicas`).

    Returns
    -------
    Result
        The same for the same config; a replica does not depend on the others, but for rounding.

    Raises
    ------
    ValueError
        If `every` is not positive, or a record does not have one entry a replica.

    Notes
    -----
    A replica whose loss is not finite has diverged. Its parameters and gradients are set to 0, so
    that recorders meet numbers, and the other replicas go on.

    Examples
    --------
    >>> from bnlib.experiments.engine.networks import Config
    >>> from bnlib.experiments.engine.training import train
    >>> run = train(Config(steps=4, seeds=2, lr=(0.1, 1e9)), {"loss": lambda s: s.loss}, every=2)
    >>> run.steps, run.records["loss"].shape
    (array([0, 2, 4]), (4, 3))
    """
    if every < 1:
        raise ValueError(f"every: expected at least 1, got {every}")
    record = {} if record is None else record
    network = build(config)
    data = load_replicas(config) if data is None else data
    updates = optimizer(config, network)
    indices = order(config, data)
    loss = np.full((config.replicas, config.steps + 1), np.nan)
    diverged = np.full(config.replicas, -1)
    steps = np.arange(0, config.steps + 1, every)
    rows: dict[str, list[NDArray]] = {name: [] for name in record}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for step in track(range(config.steps + 1), progress, "step"):
            i = next(indices)
            x, labels = _mini_batch(data, i)
            logits = network(x)
            now, dlogits = layers.softmax_cross_entropy(logits, labels)
            network.backward(dlogits, input_gradient=False)
            diverged[(diverged < 0) & ~np.isfinite(now)] = step
            dead = diverged >= 0
            now[dead] = np.nan
            loss[:, step] = now
            silence(network, dead)
            if step % every == 0:
                state = State(config, step, network, data, x, labels, logits, now)
                for name, recorder in record.items():
                    rows[name].append(_entry(name, recorder(state), dead))
            if step < config.steps:
                updates.step()
                silence(network, dead)
    records = {name: np.stack(entries, axis=1) for name, entries in rows.items()}
    return Result(config, loss, steps, records, diverged)


def predict(state: State, x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compute the logits of each replica for the same examples or its own, in eval mode.

    Parameters
    ----------
    state : State
        Its network is in train mode again afterwards.
    x : ndarray, (n, d) or (replicas, n, d)

    Returns
    -------
    ndarray, (replicas, n, c)
    """
    state.network.eval()
    logits = state.network(np.broadcast_to(x, (state.config.replicas, *x.shape[-2:])))
    state.network.train()
    return logits


def record_test_accuracy(state: State) -> NDArray[np.floating]:
    """Compute the share of test examples that each replica classifies right in eval mode.

    Parameters
    ----------
    state : State

    Returns
    -------
    ndarray, (replicas,)
    """
    return (predict(state, state.data.x_test).argmax(axis=-1) == state.data.y_test).mean(axis=-1)


def record_validation_accuracy(state: State) -> NDArray[np.floating]:
    """Compute the share of validation examples that each replica classifies right in eval mode.

    Parameters
    ----------
    state : State
        Of a config that sets `n_train`.

    Returns
    -------
    ndarray, (replicas,)
    """
    return (predict(state, state.data.x_valid).argmax(axis=-1) == state.data.y_valid).mean(axis=-1)


def _mini_batch(data: Data, i: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Take the examples and labels of each replica, (replicas, m, d) and (replicas, m)."""
    if data.y_train.ndim == 1:
        return data.x_train.take(i, axis=0), data.y_train[i]
    replicas = np.arange(len(i))[:, None]
    return data.x_train[replicas, i], data.y_train[replicas, i]


def _entry(name: str, value: NDArray, dead: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Check and copy what a recorder returned, with NaN in the replicas that have diverged."""
    value = np.array(value, np.float64)
    if value.ndim < 1 or len(value) != len(dead):
        raise ValueError(f"record {name!r}: expected shape ({len(dead)}, ...), got {value.shape}")
    value[dead] = np.nan
    return value
