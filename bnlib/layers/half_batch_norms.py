"""The two halves of batch normalization: subtract the mean alone, or divide by the scale alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bnlib import functional as F  # noqa: N812
from bnlib.layers.base import Array
from bnlib.layers.batch_norm import BatchNorm


class _HalfBatchNorm(BatchNorm):
    """gamma x_hat + beta, for an x_hat that is centred or scaled over the mini-batch."""

    def _forward(self, x: Array) -> tuple[Array, tuple[Any, ...]]:
        self._check_channels(x, self.num_features)
        first = len(self._shape) - 1  # axis of the mini-batch
        axes = (first, *range(first + 2, x.ndim))
        x_hat, statistics = self._normalize(x, axes)
        gamma, beta = (None if p is None else np.expand_dims(p, axes) for p in self._affine)
        y = x_hat.copy() if gamma is None or beta is None else gamma * x_hat + beta
        return y.astype(x.dtype, copy=False), (x_hat, gamma, axes, statistics)

    def _backward(self, dy: Array, cache: tuple[Any, ...]) -> Array:
        x_hat, gamma, axes, statistics = cache
        self._keep((dy * x_hat).sum(axis=axes), dy.sum(axis=axes))
        g = dy if gamma is None else gamma * dy
        return self._normalize_backward(g, axes, statistics).astype(dy.dtype, copy=False)

    def _normalize(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, Any]:
        """Return x_hat, and what its backward pass needs; update the running statistics."""
        raise NotImplementedError

    def _normalize_backward(self, g: Array, axes: tuple[int, ...], statistics: Any) -> Array:
        """Return the gradient of x from that of x_hat."""
        raise NotImplementedError

    def _describe(self) -> list[str]:
        return [shown for shown in super()._describe() if shown != "unbiased=False"]


class MeanOnlyBatchNorm(_HalfBatchNorm):
    r"""Subtract the mean of each feature over the mini-batch, and do not divide.

    .. math:: y = \gamma\,(x - \mu_B) + \beta, \qquad
        \frac{\partial L}{\partial x} = g - \overline{g}, \quad
        g = \gamma\,\frac{\partial L}{\partial y}

    The first half of batch norm, and the first half of its projector
    (:eq:`eq-centring-and-scaling-backward`).

    Parameters
    ----------
    num_features : int
        Number of features d of (m, d), or of channels c of (n, c, ...).
    **options
        ``momentum``, ``affine``, ``seeds`` and ``dtype`` of `BatchNorm`.

    Raises
    ------
    ValueError
        As in `BatchNorm`; in train mode also for one value per channel.

    Notes
    -----
    The mean-only batch norm of :cite:t:`salimans2016weight`. Theirs has no ``gamma``, because it
    follows a layer with weight norm, which has a scale of its own. Of the running statistics, eval
    mode takes the mean.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import MeanOnlyBatchNorm
    >>> MeanOnlyBatchNorm(1)(np.array([[1.0], [5.0]]))
    array([[-2.],
           [ 2.]])
    """

    def __init__(self, num_features: int, **options: Any) -> None:
        super().__init__(num_features, unbiased=False, **options)

    def _normalize(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, bool]:
        if not self.training:
            return x - np.expand_dims(self.running.mean, axes), False
        count = math.prod(x.shape[axis] for axis in axes)
        if count == 1:
            raise ValueError(
                f"{self._label}: x: expected more than one value per channel, got {x.shape}"
            )
        mean = x.mean(axis=axes, dtype=np.float64).astype(x.dtype)
        one = np.ones_like(mean)
        self.running.update(mean, one, count, momentum=self.momentum, unbiased=False)
        return x - np.expand_dims(mean, axes), True

    def _normalize_backward(self, g: Array, axes: tuple[int, ...], statistics: bool) -> Array:
        return g - g.mean(axis=axes, keepdims=True) if statistics else g


class ScaleOnlyBatchNorm(_HalfBatchNorm):
    r"""Divide each feature by its root mean square over the mini-batch, and do not centre.

    .. math:: \hat x = \frac{x}{\sqrt{\overline{x^2} + \epsilon}}, \qquad
        \frac{\partial L}{\partial x} =
        \frac{g - \hat x\,\overline{g \hat x}}{\sqrt{\overline{x^2} + \epsilon}}, \quad
        g = \gamma\,\frac{\partial L}{\partial y}

    The second half of batch norm, and the second half of its projector
    (:eq:`eq-centring-and-scaling-backward`): an RMS norm whose mean runs over the examples.

    Parameters
    ----------
    num_features : int
        Number of features d of (m, d), or of channels c of (n, c, ...).
    **options
        ``eps``, ``momentum``, ``affine``, ``seeds`` and ``dtype`` of `BatchNorm`.

    Raises
    ------
    ValueError
        As in `BatchNorm`.

    Notes
    -----
    :cite:t:`shen2020powernorm` study it. Of the running statistics, eval mode takes the variance,
    which is the average of the mean squares. It needs no factor m / (m - 1), because no mean was
    estimated.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import ScaleOnlyBatchNorm
    >>> ScaleOnlyBatchNorm(1, eps=0.0)(np.array([[1.0], [7.0]]))
    array([[0.2],
           [1.4]])
    """

    def __init__(self, num_features: int, **options: Any) -> None:
        super().__init__(num_features, unbiased=False, **options)

    def _normalize(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, Any]:
        if not self.training:
            zero, mean_square = np.zeros_like(self.running.mean), self.running.var
            x_hat = F.batch_norm_inference(x, zero, mean_square, eps=self.eps, axes=axes)
            inv_std = 1 / np.sqrt(np.expand_dims(mean_square, axes) + self.eps)
            return x_hat, inv_std
        z = F.standardize(x, axes, eps=self.eps, center=False)
        mean_square = z.var.reshape(self._shape)
        zero = np.zeros_like(mean_square)
        self.running.update(zero, mean_square, z.count, momentum=self.momentum, unbiased=False)
        return z.x_hat, z

    def _normalize_backward(self, g: Array, axes: tuple[int, ...], statistics: Any) -> Array:
        if isinstance(statistics, F.Standardized):
            return F.standardize_backward(g, statistics)
        return statistics * g
