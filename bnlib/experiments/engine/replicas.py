"""Keep the replicas of a network apart when one of them diverges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnlib import layers
from bnlib.experiments.engine.probe_layers import DetachedBatchNorm, ScaleAndShift
from bnlib.functional import RunningStatistics

OF_THE_BATCH = {
    "batch": layers.BatchNorm,
    "center": layers.MeanOnlyBatchNorm,
    "scale": layers.ScaleOnlyBatchNorm,
    "detached": DetachedBatchNorm,
}
"""Norms with statistics of the mini-batch."""


class ReplicaStatistics(RunningStatistics):
    """Running statistics, (k, d), of which each replica refuses non-finite values for itself.

    `RunningStatistics` raises on the first such value. Here the replica that it occurs in keeps its
    estimates, and the others are updated.
    """

    def update(self, mean: NDArray, var: NDArray, n: int, *args: Any, **options: Any) -> None:
        """Take in the statistics of one mini-batch; as `RunningStatistics.update`."""
        largest = np.finfo(self.var.dtype).max / 2  # var n / (n - 1) is finite too
        fine = ((np.abs(mean) <= largest) & (var <= largest)).all(axis=-1, keepdims=True)  # (k, 1)
        if fine.all():
            super().update(mean, var, n, *args, **options)
            return
        old_mean, old_var = self.mean, self.var
        super().update(np.where(fine, mean, 0), np.where(fine, var, 0), n, *args, **options)
        self.mean = np.where(fine, self.mean, old_mean)
        self.var = np.where(fine, self.var, old_var)


def keep_apart(norm: layers.BatchNorm) -> layers.BatchNorm:
    """Let each replica of a norm refuse non-finite statistics for itself, and return the norm."""
    norm.running = ReplicaStatistics.initial(norm.running.mean.shape, norm.dtype)
    return norm


def build_norm(
    name: str, width: int, groups: int, replicas: int, dtype: DTypeLike = np.float64
) -> list[layers.Layer]:
    """Build the normalization layer of this name, in a list; none for "none"."""
    if name in OF_THE_BATCH:
        return [keep_apart(OF_THE_BATCH[name](width, seeds=replicas, dtype=dtype))]
    if name == "layer":
        return [layers.LayerNorm(width, seeds=replicas, dtype=dtype)]
    if name == "rms":
        return [layers.RMSNorm(width, seeds=replicas, dtype=dtype)]
    if name == "identity":
        return [ScaleAndShift(width, seeds=replicas, dtype=dtype)]
    if name == "tanh":
        return [layers.DynamicTanh(width, seeds=replicas, dtype=dtype)]
    if name == "group":
        return [layers.GroupNorm(groups, width, seeds=replicas, dtype=dtype)]
    return []


def silence(network: layers.Layer, dead: NDArray[np.bool_]) -> None:
    """Set the parameters and gradients of these replicas to 0, in place."""
    if dead.any():
        for arrays in (network.parameters, network.gradients):
            for array in arrays.values():
                array[dead] = 0
