"""Ghost batch normalization: the statistics of small parts of the mini-batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from bnlib import functional as F  # noqa: N812
from bnlib._validation import check_integer
from bnlib.layers.base import Array
from bnlib.layers.batch_norm import BatchNorm


class GhostBatchNorm(BatchNorm):
    """Batch normalization in which each `size` examples have statistics of their own.

    Parameters
    ----------
    num_features : int
        Number of features d of (m, d), or of channels c of (n, c, ...).
    size : int
        Examples of a part; divides the mini-batch.
    **options
        The other arguments of `BatchNorm`.

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If ``size`` is not positive, or as in `BatchNorm`.

    Notes
    -----
    :cite:t:`hoffer2017train`. Eval mode is that of `BatchNorm`.

    Example i belongs to part i mod (m / size), so that a reshape turns each part of each feature
    into a column of its own. The running statistics move once a mini-batch, by the mean over the
    parts. `bnlib.nn.GhostBatchNorm1d` cuts the mini-batch in its order, and its running statistics
    move once for each part: for the cumulative average that is the same.

    Examples
    --------
    Two parts, the examples 0 and 2, and 1 and 3:

    >>> import numpy as np
    >>> from bnlib.layers import GhostBatchNorm
    >>> GhostBatchNorm(1, 2)(np.array([[1.0], [10.0], [3.0], [50.0]])).round(3)
    array([[-1.],
           [-1.],
           [ 1.],
           [ 1.]])
    """

    def __init__(self, num_features: int, size: int, **options: Any) -> None:
        check_integer("size", size)
        super().__init__(num_features, **options)
        self.size = size

    def _forward(self, x: Array) -> tuple[Array, tuple[Any, Any]]:
        if not self.training:
            return super()._forward(x)
        self._check_channels(x, self.num_features)
        first = len(self._shape) - 1  # axis of the mini-batch
        m, d = x.shape[first : first + 2]
        if m % self.size:
            raise ValueError(
                f"{self._label}: x: expected a multiple of {self.size} examples, got {x.shape}"
            )
        parts = m // self.size
        columns = x.reshape(*x.shape[:first], self.size, parts * d, *x.shape[first + 2 :])
        affine = [
            None if parameter is None else np.tile(parameter, parts) for parameter in self._affine
        ]
        axes = (first, *range(first + 2, x.ndim))
        y, cache = F.batch_norm_forward(columns, *affine, eps=self.eps, axes=axes)
        assert cache.mean is not None  # only an RMS norm has none
        mean, var = (self._of_parts(s).mean(axis=-2) for s in (cache.mean, cache.var))
        self.running.update(mean, var, cache.count, momentum=self.momentum, unbiased=self.unbiased)
        return y.reshape(x.shape), (cache, None)

    def _backward(self, dy: Array, cache: tuple[Any, Any]) -> Array:
        if cache[0] is None:
            return super()._backward(dy, cache)
        dx, *gradients = F.batch_norm_backward(dy.reshape(cache[0].x_hat.shape), cache[0])
        self._keep(*(None if g is None else self._of_parts(g).sum(axis=-2) for g in gradients))
        return dx.reshape(dy.shape)

    def _of_parts(self, columns: Array) -> Array:
        """Split one number a column into (..., parts, d)."""
        return columns.reshape(*self._shape[:-1], -1, self.num_features)

    def _describe(self) -> list[str]:
        features, *rest = super()._describe()
        return [features, str(self.size), *rest]
