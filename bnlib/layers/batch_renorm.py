"""Batch renormalization: batch norm that stays close to its running statistics."""

from __future__ import annotations

import copy
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
    batch normalization; the bounds grow on a line over the next `warm_up`. As in the paper, the
    standard deviations are averaged, with divisor m; `running.var` is the square of their average,
    less eps. It is the function of `bnlib.nn.BatchRenorm1d`.

    Parameters
    ----------
    num_features : int
        Number of features d of (m, d), or of channels c of (n, c, ...).
    r_max, d_max : float
        Largest corrections of scale and shift, at least 1 and 0.
    warm_up : int
        Mini-batches before the bounds grow; 0 for the full bounds from the first one on.
    **options
        The other arguments of `BatchNorm`.

    Raises
    ------
    ValueError
        If `r_max` or `d_max` is too small, or as in `BatchNorm`.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import BatchRenorm
    >>> layer = BatchRenorm(1, r_max=1.5, d_max=0.5)  # running mean 0, variance 1
    >>> layer(np.array([[1.0], [5.0]])).round(2)  # 1.5 * x_hat + 0.5
    array([[-1.],
           [ 2.]])
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
        self._check_channels(x, self.num_features)
        first = len(self._shape) - 1  # axis of the mini-batch
        axes = (first, *range(first + 2, x.ndim))
        x_hat, cache = F.batch_norm_forward(x, eps=self.eps, axes=axes)
        assert cache.mean is not None  # only an RMS norm has none
        mean, var = (s.reshape(self._shape) for s in (cache.mean, cache.var))
        r_max, d_max = self.bounds
        std, running_std = (np.sqrt(v + self.eps) for v in (var, self.running.var))
        r = np.clip(std / running_std, 1 / r_max, r_max).astype(x.dtype)
        d = np.clip((mean - self.running.mean) / running_std, -d_max, d_max).astype(x.dtype)
        x_hat = np.expand_dims(r, axes) * x_hat + np.expand_dims(d, axes)
        self._update(mean, std, running_std, cache.count)
        gamma, beta = self._affine
        y = x_hat if gamma is None else np.expand_dims(gamma, axes) * x_hat
        y = y if beta is None else y + np.expand_dims(beta, axes)
        scale = np.expand_dims(r if gamma is None else gamma * r, axes)
        return y, (cache, (x_hat, scale, axes))

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
        batch, (x_hat, scale, axes) = cache
        self._keep((dy * x_hat).sum(axis=axes), dy.sum(axis=axes))
        return F.batch_norm_backward(scale * dy, batch)[0]
