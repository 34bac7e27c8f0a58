"""Copies of trained networks in train mode, and in eval mode with one of several statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine.replicas import ReplicaStatistics

Array = NDArray[np.floating]
Momentum = float | None


class Averages:
    """Running statistics of several momenta, from the same mini-batches."""

    def __init__(self, norm: layers.BatchNorm, momenta: Sequence[Momentum]) -> None:
        shape, dtype = norm.parameters["gamma"].shape, norm.dtype
        self.of = {momentum: ReplicaStatistics.initial(shape, dtype) for momentum in momenta}

    def update(self, mean: Array, var: Array, n: int, *, unbiased: bool = True, **_: Any) -> None:
        """Take in the statistics of one mini-batch; as `RunningStatistics.update`."""
        for momentum, running in self.of.items():
            running.update(mean, var, n, momentum=momentum, unbiased=unbiased)


def track(network: layers.Sequential, momenta: Sequence[Momentum]) -> layers.Sequential:
    """Let the norms of a network start running statistics of several momenta, and return it."""
    for norm in batch_norms(network):
        norm.running = Averages(norm, momenta)
    return network


def in_eval_mode(network: layers.Sequential, momentum: Momentum) -> layers.Sequential:
    """Return a copy in eval mode, with the running statistics of one momentum."""
    network = deepcopy(network)
    for norm in batch_norms(network):
        norm.running = norm.running.of[momentum]
    return network.eval()


def recalibrate(network: layers.Sequential, batches: Iterable[Array]) -> layers.Sequential:
    """Return a copy in eval mode, with the average of mini-batches at the weights as they are."""
    network = track(deepcopy(network).train(), (None,))
    for x in batches:
        network(x)
    return in_eval_mode(network, None)


def predict(
    network: layers.Sequential, x: Array, partition: list[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return the predicted classes of (n, d), mini-batch by mini-batch, (k, n)."""
    predicted = np.concatenate([network(x[i]).argmax(axis=-1) for i in partition], axis=1)
    back = np.argsort(np.concatenate(partition, axis=1), axis=1)
    return np.take_along_axis(predicted, back, axis=1)


def batch_norms(network: layers.Sequential) -> list[layers.BatchNorm]:
    """List the batch norms of a network."""
    return [layer for layer in network if isinstance(layer, layers.BatchNorm)]
