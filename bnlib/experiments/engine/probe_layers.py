"""Layers that change what a norm sees, or what passes through it backward, to ask what for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnlib import layers

Array = NDArray[np.floating]


class AddPopulation(layers.Layer):
    """Put the same examples, the population, before each mini-batch in train mode.

    The BN layers behind it normalize with the statistics of the population, and pass the gradient
    through them: they are functions of the weights, and a backward pass that takes them for
    constants does not minimize the loss (:mod:`bnlib.experiments.detached_statistics`). The m
    examples of the mini-batch take part in the statistics too: what is left of the noise of their
    mean has (m / (n + m))^2 of its variance, 4 % for m = 64 and n = 256.
    """

    def __init__(self, x: Array) -> None:
        super().__init__()
        self.x = x  # (n, d), or (k, n, d) if each network has its own

    def _forward(self, x: Array) -> tuple[Array, int]:
        if not self.training:
            return x, 0
        population = np.broadcast_to(self.x, (len(x), *self.x.shape[-2:]))
        return np.concatenate([population, x], axis=1), population.shape[1]

    def _backward(self, dy: Array, n: int) -> Array:
        return dy[:, n:]


class DetachedBatchNorm(layers.BatchNorm):
    """Batch norm of k networks, whose backward pass takes the statistics for constants."""

    def _backward(self, dy: Array, cache: tuple[Any, Any]) -> Array:
        dx, batch = super()._backward(dy, cache), cache[0]
        if batch is None:  # in eval mode they are constants
            return dx
        scale = self.parameters["gamma"] * batch.inv_std
        return dy * scale[:, None]


class DropPopulation(layers.Layer):
    """Drop the first n examples in train mode, so that the loss is that of the mini-batch."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def _forward(self, x: Array) -> tuple[Array, int]:
        n = self.n if self.training else 0
        return x[:, n:].copy(), n

    def _backward(self, dy: Array, n: int) -> Array:
        return np.concatenate([np.zeros((len(dy), n, dy.shape[-1]), dy.dtype), dy], axis=1)


class ScaleAndShift(layers.Layer):
    """gamma x + beta: batch norm without the norm, for k networks with d features."""

    def __init__(self, num_features: int, *, seeds: int, dtype: DTypeLike) -> None:
        shape = seeds, num_features
        super().__init__(
            {"gamma": np.ones(shape, dtype), "beta": np.zeros(shape, dtype)}, seeds=seeds
        )

    def _forward(self, x: Array) -> tuple[Array, Array]:
        gamma, beta = (self.parameters[name][:, None] for name in ("gamma", "beta"))
        return gamma * x + beta, x

    def _backward(self, dy: Array, x: Array) -> Array:
        self.gradients["gamma"] = (dy * x).sum(axis=1)
        self.gradients["beta"] = dy.sum(axis=1)
        return dy * self.parameters["gamma"][:, None]


class StopGradient(layers.Layer):
    """The identity, through which no gradient passes."""

    def _forward(self, x: Array) -> tuple[Array, None]:
        return x, None

    def _backward(self, dy: Array, cache: None) -> Array:
        return np.zeros_like(dy)
