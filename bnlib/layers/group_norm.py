"""Group and instance normalization: each example, some channels, all positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from bnlib import functional as F  # noqa: N812
from bnlib._validation import check_integer
from bnlib.layers.base import Array
from bnlib.layers.norms import Norm


class GroupNorm(Norm):
    """Group normalization: each example over the channels of a group and all positions.

    Parameters
    ----------
    num_groups : int
        Number of equal groups of neighbouring channels.
    num_channels : int
        Number of channels c of (n, c, ...).
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
        ``gamma`` and ``beta``, (c,) or (k, c): one value a channel, not one a group.

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If a size is not positive, ``num_groups`` does not divide ``num_channels``, or ``eps`` is
        negative.

    Notes
    -----
    :cite:t:`wu2018group`. Train and eval mode are the same. One group is layer normalization over
    channels and positions, one channel a group is instance normalization.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import GroupNorm
    >>> GroupNorm(1, 2)(np.array([[[1.0], [3.0]]])).round(3)
    array([[[-1.],
            [ 1.]]])
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        seeds: int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> None:
        check_integer("num_groups", num_groups)
        check_integer("num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(
                f"num_groups: expected a divisor of num_channels={num_channels}, got {num_groups}"
            )
        super().__init__((num_channels,), eps=eps, affine=affine, seeds=seeds, dtype=dtype)
        self.num_groups, self.num_channels = num_groups, num_channels

    def _forward(self, x: Array) -> tuple[Array, Any]:
        self._check_channels(x, self.num_channels)
        y, cache = self._normalize(self._merge(x))
        return y.reshape(x.shape), cache

    def _backward(self, dy: Array, cache: Any) -> Array:
        dx, *gradients = self._derive(self._merge(dy), cache)
        self._keep(*gradients)
        return dx.reshape(dy.shape)

    def _merge(self, x: Array) -> Array:
        """Join seeds and examples, which are all alike, if there is no gamma to tell them apart."""
        return x if self.affine or self.seeds is None else x.reshape(-1, *x.shape[2:])

    def _normalize(self, x: Array) -> tuple[Array, Any]:
        return F.group_norm_forward(x, self.num_groups, *self._affine, eps=self.eps)

    def _derive(self, dy: Array, cache: Any) -> tuple[Array, Array | None, Array | None]:
        return F.group_norm_backward(dy, cache)

    def _describe(self) -> list[str]:
        return [str(self.num_groups), str(self.num_channels), *self._options()]


class InstanceNorm(GroupNorm):
    """Instance normalization: each channel of each example over all positions.

    Parameters
    ----------
    num_features : int
        Number of channels c of (n, c, ...).
    eps : float
        Added to the variance.
    affine : bool
        Whether there are parameters ``gamma`` and ``beta`` (in PyTorch, by default not).
    seeds : int, optional
        Length of the leading seed axis; None for no such axis.
    dtype : dtype
        Floating-point type of the parameters and the input.

    Attributes
    ----------
    parameters : dict
        ``gamma`` and ``beta``, (c,) or (k, c).

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If a size is not positive or ``eps`` is negative.

    Notes
    -----
    :cite:t:`ulyanov2016instance`. Train and eval mode are the same. It is group normalization
    with one channel a group.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import InstanceNorm
    >>> InstanceNorm(1)(np.array([[[1.0, 3.0]]])).round(3)
    array([[[-1.,  1.]]])
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        seeds: int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> None:
        check_integer("num_features", num_features)
        super().__init__(
            num_features, num_features, eps=eps, affine=affine, seeds=seeds, dtype=dtype
        )
        self.num_features = num_features

    def _normalize(self, x: Array) -> tuple[Array, Any]:
        return F.instance_norm_forward(x, *self._affine, eps=self.eps)

    def _derive(self, dy: Array, cache: Any) -> tuple[Array, Array | None, Array | None]:
        return F.instance_norm_backward(dy, cache)

    def _describe(self) -> list[str]:
        return [str(self.num_features), *self._options()]
