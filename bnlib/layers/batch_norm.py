"""The batch normalization layer, which has a mode and running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from bnlib import functional as F  # noqa: N812
from bnlib._validation import check_integer
from bnlib.layers.base import Array
from bnlib.layers.norms import Norm


class BatchNorm(Norm):
    """Batch normalization of each feature or channel.

    Parameters
    ----------
    num_features : int
        Number of features d of (m, d), or of channels c of (n, c, ...).
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of the new batch in the running statistics; None for the cumulative average.
    unbiased : bool
        Whether the running variance takes the batch variance with the divisor m - 1.
    affine : bool
        Whether there are parameters ``gamma`` and ``beta``.
    seeds : int, optional
        Length of the leading seed axis; None for no such axis.
    dtype : dtype
        Floating-point type of the parameters, the running statistics and the input.

    Attributes
    ----------
    parameters : dict
        ``gamma`` and ``beta``, (d,) or (k, d).
    running : RunningStatistics
        Running mean and variance of the same shape. Train mode normalizes with the statistics of
        the mini-batch and updates them, eval mode normalizes with them.

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If a size is not positive, ``eps`` is negative, or ``momentum`` is not in [0, 1].

    Notes
    -----
    :cite:t:`ioffe2015batch`, Algorithms 1 and 2; see :doc:`/book/forward_pass` and
    :doc:`/book/inference`. Defaults as in PyTorch. Any number of spatial axes may follow the
    features.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import BatchNorm
    >>> layer = BatchNorm(1)
    >>> layer(np.array([[1.0], [3.0]])).round(3)
    array([[-1.],
           [ 1.]])
    >>> layer.running.mean  # 0.9 * 0 + 0.1 * 2
    array([0.2])
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        unbiased: bool = True,
        affine: bool = True,
        seeds: int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> None:
        check_integer("num_features", num_features)
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum: expected a number in [0, 1] or None, got {momentum!r}")
        super().__init__((num_features,), eps=eps, affine=affine, seeds=seeds, dtype=dtype)
        self.num_features, self.momentum, self.unbiased = num_features, momentum, unbiased
        self.running = F.RunningStatistics.initial(self._shape, dtype=self.dtype)

    def _forward(self, x: Array) -> tuple[Array, tuple[Any, Any]]:
        self._check_channels(x, self.num_features)
        first = len(self._shape) - 1  # axis of the mini-batch
        axes = (first, *range(first + 2, x.ndim))
        if not self.training:
            statistics = self.running.mean, self.running.var
            y = F.batch_norm_inference(x, *statistics, *self._affine, eps=self.eps, axes=axes)
            return y, (None, (x, axes, *statistics))
        y, cache = F.batch_norm_forward(x, *self._affine, eps=self.eps, axes=axes)
        assert cache.mean is not None  # only an RMS norm has none
        self.running.update(
            cache.mean, cache.var, cache.count, momentum=self.momentum, unbiased=self.unbiased
        )
        return y, (cache, None)

    def _backward(self, dy: Array, cache: tuple[Any, Any]) -> Array:
        batch, fixed = cache
        if batch is not None:
            dx, *gradients = F.batch_norm_backward(dy, batch)
        else:
            x, axes, mean, var = fixed
            dx, *gradients = F.batch_norm_inference_backward(
                dy, x, mean, var, self.parameters.get("gamma"), eps=self.eps, axes=axes
            )
        self._keep(*gradients)
        return dx

    def _describe(self) -> list[str]:
        shown = [str(self.num_features)]
        shown += [f"momentum={self.momentum}"] * (self.momentum != 0.1)
        return shown + ["unbiased=False"] * (not self.unbiased) + self._options()
