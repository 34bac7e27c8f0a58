"""Batch normalization with more noise in its statistics, and with next to none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnlib import functional as F  # noqa: N812
from bnlib import layers

Array = NDArray[np.floating]


class GhostBatchNorm(layers.BatchNorm):
    """Batch normalization in which each `size` examples have statistics of their own.

    After :cite:t:`hoffer2017train`. With a seed axis only: x is (k, m, d), and `size` divides m.
    Example i belongs to part i mod (m / size), so that a reshape turns each part of each feature
    into a column of its own. The running statistics take the mean over the parts.
    """

    def __init__(self, num_features: int, size: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.size = size

    def _forward(self, x: Array) -> tuple[Array, tuple[Any, Any]]:
        if not self.training:
            return super()._forward(x)
        k, m, d = x.shape
        parts = m // self.size
        columns = x.reshape(k, self.size, parts * d)
        affine = [np.tile(parameter, parts) for parameter in self._affine]
        y, cache = F.batch_norm_forward(columns, *affine, eps=self.eps, axes=(1,))
        mean, var = (s.reshape(k, parts, d).mean(axis=1) for s in (cache.mean, cache.var))
        self.running.update(mean, var, self.size, momentum=self.momentum, unbiased=self.unbiased)
        return y.reshape(x.shape), (cache, None)

    def _backward(self, dy: Array, cache: tuple[Any, Any]) -> Array:
        if cache[0] is None:
            return super()._backward(dy, cache)
        k, _, d = dy.shape
        dx, *gradients = F.batch_norm_backward(dy.reshape(k, self.size, -1), cache[0])
        self._keep(*(g.reshape(k, -1, d).sum(axis=1) for g in gradients))
        return dx.reshape(dy.shape)


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
        self.x = x

    def _forward(self, x: Array) -> tuple[Array, int]:
        if not self.training:
            return x, 0
        population = np.broadcast_to(self.x, (len(x), *self.x.shape))
        return np.concatenate([population, x], axis=1), len(self.x)

    def _backward(self, dy: Array, n: int) -> Array:
        return dy[:, n:]


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
