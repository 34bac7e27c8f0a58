"""Maximum and average over windows of an image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnlib.layers.base import Array, Layer
from bnlib.layers.convolution import pair, short


class _Pool2d(Layer):
    """Windows of the last two axes, without padding; what does not fill a window is left out."""

    def __init__(
        self, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair("stride", stride)

    def _parts(self, x: Array) -> Iterator[Array]:
        """Yield, for each place in the window, that entry of all windows: views of x (..., h', w').

        The order is by rows, so the first of two equal entries comes first.
        """
        (kh, kw), (sh, sw) = self.kernel_size, self.stride
        rows, columns = x.shape[-2] - kh, x.shape[-1] - kw
        for i in range(kh):
            for j in range(kw):
                yield x[..., i : i + rows + 1 : sh, j : j + columns + 1 : sw]

    def _check(self, x: Array) -> None:
        kh, kw = self.kernel_size
        if x.ndim < 3 or x.shape[-2] < kh or x.shape[-1] < kw:
            raise ValueError(
                f"{self._label}: x: expected shape (..., c, h, w) with h >= {kh}, w >= {kw}, "
                f"got {x.shape}"
            )

    def _describe(self) -> list[str]:
        stride = [] if self.stride == self.kernel_size else [f"stride={short(self.stride)}"]
        return [short(self.kernel_size), *stride]


class MaxPool2d(_Pool2d):
    """Maximum of each window of the last two axes.

    Parameters
    ----------
    kernel_size : int or pair of int
        Height and width of the window.
    stride : int or pair of int, optional
        Step of the window; by default its size.

    Raises
    ------
    ValueError
        If a size is not a positive integer, or the window is larger than the image.

    Notes
    -----
    The gradient goes to the largest entry of each window, to the first of them (by rows) if there
    are several, as in PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import MaxPool2d
    >>> pool = MaxPool2d(2)
    >>> pool(np.array([[[1.0, 2.0], [3.0, 3.0]]]))
    array([[[3.]]])
    >>> pool.backward(np.array([[[1.0]]]))
    array([[[0., 0.],
            [1., 0.]]])
    """

    def _forward(self, x: Array) -> tuple[Array, tuple[Array, Array]]:
        self._check(x)
        parts = self._parts(x)
        y = next(parts).copy()
        for part in parts:
            np.maximum(y, part, out=y)
        return y, (x, y)

    def _backward(self, dy: Array, cache: tuple[Array, Array]) -> Array:
        x, y = cache
        dx = np.zeros(x.shape, x.dtype)
        free = np.ones(y.shape, bool)
        for part, dpart in zip(self._parts(x), self._parts(dx), strict=True):
            first = part == y
            first &= free
            free ^= first
            dpart += dy * first
        return dx


class AvgPool2d(_Pool2d):
    """Mean of each window of the last two axes.

    Parameters
    ----------
    kernel_size : int or pair of int
        Height and width of the window.
    stride : int or pair of int, optional
        Step of the window; by default its size.

    Raises
    ------
    ValueError
        If a size is not a positive integer, or the window is larger than the image.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import AvgPool2d
    >>> pool = AvgPool2d(2)
    >>> pool(np.array([[[1.0, 2.0], [3.0, 4.0]]]))
    array([[[2.5]]])
    >>> pool.backward(np.array([[[1.0]]]))
    array([[[0.25, 0.25],
            [0.25, 0.25]]])
    """

    def _forward(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        self._check(x)
        parts = self._parts(x)
        y = next(parts).copy()
        for part in parts:
            y += part
        y /= self.kernel_size[0] * self.kernel_size[1]
        return y, x.shape

    def _backward(self, dy: Array, shape: tuple[int, ...]) -> Array:
        dx = np.zeros(shape, dy.dtype)
        dy = dy / (self.kernel_size[0] * self.kernel_size[1])
        for dpart in self._parts(dx):
            dpart += dy
        return dx
