"""Batch renormalization: batch norm that stays close to its running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnlib import functional as F  # noqa: N812
from bnlib.layers.batch_norm import BatchNorm

Array = NDArray[np.floating]


class BatchRenorm(BatchNorm):
    """Batch normalization whose output in train mode is corrected towards that of eval mode.

    Algorithm 1 of :cite:t:`ioffe2017batch`: x_hat becomes r x_hat + d with
    r = std_batch / std_running, clipped to [1 / r_max, r_max], and
    d = (mean_batch - mean_running) / std_running, clipped to [-d_max, d_max]. The backward pass
    takes r and d for constants. For the first `warm_up` mini-batches r = 1 and d = 0, which is
    batch normalization; the bounds grow on a line over the next `warm_up`. With a seed axis only:
    x is (k, m, d). The paper averages standard deviations, this layer variances, as batch norm
    does.
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
        inv_std = 1 / np.sqrt(self.running.var + self.eps)
        r = np.clip(np.sqrt(var + self.eps) * inv_std, 1 / r_max, r_max).astype(x.dtype)
        d = np.clip((mean - self.running.mean) * inv_std, -d_max, d_max).astype(x.dtype)
        x_hat = r[:, None] * x_hat + d[:, None]
        self.running.update(mean, var, cache.count, momentum=self.momentum, unbiased=self.unbiased)
        self.updates += 1
        gamma, beta = (self.parameters[name][:, None] for name in ("gamma", "beta"))
        return gamma * x_hat + beta, (cache, (x_hat, gamma * r[:, None]))

    def _backward(self, dy: Array, cache: tuple[Any, Any]) -> Array:
        if cache[0] is None:
            return super()._backward(dy, cache)
        batch, (x_hat, scale) = cache
        self._keep((dy * x_hat).sum(axis=1), dy.sum(axis=1))
        return F.batch_norm_backward(scale * dy, batch)[0]
