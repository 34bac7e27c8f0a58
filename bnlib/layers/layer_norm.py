"""Layer and RMS normalization: each example over its last axes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from bnlib import functional as F  # noqa: N812
from bnlib._validation import check_integer
from bnlib.layers.base import Array
from bnlib.layers.norms import Norm


class _LastAxes(Norm):
    """Normalization of each example over its last axes."""

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        *,
        eps: float = 1e-5,
        affine: bool = True,
        seeds: int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> None:
        if not isinstance(normalized_shape, Iterable):
            normalized_shape = (normalized_shape,)
        shape = tuple(normalized_shape)
        if not shape:
            raise ValueError("normalized_shape: expected at least one axis, got ()")
        for size in shape:
            check_integer("normalized_shape", size)
        super().__init__(shape, eps=eps, affine=affine, seeds=seeds, dtype=dtype)
        self.normalized_shape = shape

    def _axes(self, x: Array) -> tuple[int, ...]:
        shape = self.normalized_shape
        form = "m, ..., " + ", ".join(map(str, shape))
        rank = 1 + len(self._shape)
        self._check(x, form, x.ndim >= rank and x.shape[-len(shape) :] == shape)
        return tuple(range(-len(shape), 0))

    def _describe(self) -> list[str]:
        shape = self.normalized_shape
        return [str(shape[0] if len(shape) == 1 else shape), *self._options()]


class LayerNorm(_LastAxes):
    """Layer normalization: each example over its last axes.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Sizes of the last axes, which are normalized together.
    eps : float
        Added to the variance.
    affine : bool
        Whether there are parameters ``gamma`` and ``beta``.
    seeds : int, optional
        Length of the leading seed axis; None for no such axis.
    dtype : dtype
        Floating-point type of the parameters and the input.

    Attributes
    ----------
    parameters : dict
        ``gamma`` and ``beta``, of shape normalized_shape, after (k,) with seeds.

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If a size is not positive or ``eps`` is negative.

    Notes
    -----
    :cite:t:`ba2016layer`. Train and eval mode are the same.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import LayerNorm
    >>> LayerNorm(2)(np.array([[1.0, 3.0], [7.0, 5.0]])).round(3)
    array([[-1.,  1.],
           [ 1., -1.]])
    """

    def _forward(self, x: Array) -> tuple[Array, Any]:
        axes = self._axes(x)
        return F.layer_norm_forward(x, *self._affine, eps=self.eps, axes=axes)

    def _backward(self, dy: Array, cache: Any) -> Array:
        dx, dgamma, dbeta = F.layer_norm_backward(dy, cache)
        self._keep(dgamma, dbeta)
        return dx


class RMSNorm(_LastAxes):
    """Root-mean-square normalization: each example over its last axes, without a mean.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Sizes of the last axes, which are normalized together.
    eps : float
        Added to the mean square.
    affine : bool
        Whether there is a parameter ``gamma``.
    seeds : int, optional
        Length of the leading seed axis; None for no such axis.
    dtype : dtype
        Floating-point type of the parameters and the input.

    Attributes
    ----------
    parameters : dict
        ``gamma``, of shape normalized_shape, after (k,) with seeds.

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If a size is not positive or ``eps`` is negative.

    Notes
    -----
    :cite:t:`zhang2019root`. Train and eval mode are the same.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import RMSNorm
    >>> RMSNorm(2, eps=0.0)(np.array([[1.0, 7.0]]))
    array([[0.2, 1.4]])
    """

    _names = ("gamma",)

    def _forward(self, x: Array) -> tuple[Array, Any]:
        axes = self._axes(x)
        return F.rms_norm_forward(x, *self._affine, eps=self.eps, axes=axes)

    def _backward(self, dy: Array, cache: Any) -> Array:
        dx, dgamma = F.rms_norm_backward(dy, cache)[:2]
        self._keep(dgamma)
        return dx
