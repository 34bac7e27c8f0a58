"""Layers that the library proper does not have, for the experiment with small mini-batches."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnlib import functional as F  # noqa: N812
from bnlib import layers
from bnlib.layers.base import float_dtype

Array = NDArray[np.floating]


class BatchRenorm(layers.BatchNorm):
    """Batch normalization whose output in train mode is corrected towards that of eval mode.

    Algorithm 1 of :cite:t:`ioffe2017batch`: x_hat becomes r x_hat + d with
    r = std_batch / std_running, clipped to [1 / r_max, r_max], and
    d = (mean_batch - mean_running) / std_running, clipped to [-d_max, d_max]. The backward pass
    takes r and d for constants. For the first `warm_up` mini-batches r = 1 and d = 0, which is
    batch normalization; the bounds grow on a line over the next `warm_up`. As in the paper, the
    standard deviations are averaged, with divisor m; `running.var` is the square of their average,
    less eps. It is the function of `bnlib.nn.BatchRenorm1d`, with a seed axis: x is (k, m, d).
    """

    def __init__(
        self,
        num_features: int,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        warm_up: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(num_features, **options)
        if not r_max >= 1 or not d_max >= 0:
            raise ValueError(f"r_max, d_max: expected at least 1 and 0, got {r_max}, {d_max}")
        self.r_max, self.d_max, self.warm_up = r_max, d_max, warm_up
        self.updates = 0

    @property
    def bounds(self) -> tuple[float, float]:
        """The largest r and the largest absolute d for the next mini-batch."""
        grown = 1.0 if self.warm_up == 0 else self.updates / self.warm_up - 1
        grown = min(max(grown, 0.0), 1.0)
        return 1 + grown * (self.r_max - 1), grown * self.d_max

    def _forward(self, x: Array) -> tuple[Array, tuple[Any, Any]]:
        if not self.training:
            return super()._forward(x)
        x_hat, cache = F.batch_norm_forward(x, eps=self.eps, axes=(1,))
        mean, var = (s.reshape(self._shape) for s in (cache.mean, cache.var))
        r_max, d_max = self.bounds
        std, running_std = (np.sqrt(v + self.eps) for v in (var, self.running.var))
        r = np.clip(std / running_std, 1 / r_max, r_max).astype(x.dtype)
        d = np.clip((mean - self.running.mean) / running_std, -d_max, d_max).astype(x.dtype)
        x_hat = r[:, None] * x_hat + d[:, None]
        self._update(mean, std, running_std, cache.count)
        gamma, beta = (self.parameters[name][:, None] for name in ("gamma", "beta"))
        return gamma * x_hat + beta, (cache, (x_hat, gamma * r[:, None]))

    def _update(self, mean: Array, std: Array, running_std: Array, m: int) -> None:
        running = copy.copy(self.running)
        running.var = running_std
        running.update(mean, std, m, momentum=self.momentum, unbiased=False)
        var = np.maximum(running.var**2 - self.eps, 0)
        self.running = type(running)(running.mean, var, running.count)
        self.updates += 1

    def _backward(self, dy: Array, cache: tuple[Any, Any]) -> Array:
        if cache[0] is None:
            return super()._backward(dy, cache)
        batch, (x_hat, scale) = cache
        self._keep((dy * x_hat).sum(axis=1), dy.sum(axis=1))
        return F.batch_norm_backward(scale * dy, batch)[0]


class DynamicTanh(layers.Layer):
    """The function gamma tanh(alpha x) + beta of :cite:t:`zhu2025transformers`: no statistics.

    alpha is one number a seed, gamma and beta have one a feature; x is (k, m, d).
    """

    per_seed = True

    def __init__(
        self,
        num_features: int,
        *,
        alpha: float = 0.5,
        seeds: int,
        dtype: DTypeLike = np.float64,
    ) -> None:
        dtype = float_dtype(dtype)
        shape = (seeds, num_features)
        parameters = {"alpha": np.full((seeds, 1), alpha, dtype)}
        parameters |= {"gamma": np.ones(shape, dtype), "beta": np.zeros(shape, dtype)}
        super().__init__(parameters, seeds=seeds)

    def _forward(self, x: Array) -> tuple[Array, tuple[Array, ...]]:
        alpha, gamma, beta = (self.parameters[n][:, None] for n in ("alpha", "gamma", "beta"))
        t = np.tanh(alpha * x)
        return gamma * t + beta, (x, t, alpha, gamma)

    def _backward(self, dy: Array, cache: tuple[Array, ...]) -> Array:
        x, t, alpha, gamma = cache
        inner = dy * gamma * (1 - t**2)  # gradient of alpha x
        self.gradients["alpha"] = (inner * x).sum(axis=(1, 2))[:, None]
        self.gradients["gamma"] = (dy * t).sum(axis=1)
        self.gradients["beta"] = dy.sum(axis=1)
        return alpha * inner


class StopGradient(layers.Layer):
    """The identity, through which no gradient passes."""

    def _forward(self, x: Array) -> tuple[Array, None]:
        return x, None

    def _backward(self, dy: Array, cache: None) -> Array:
        return np.zeros_like(dy)
