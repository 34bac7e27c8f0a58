"""The two-dimensional convolution."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike

from bnlib._validation import Rng, check_integer
from bnlib.layers.base import Array, Initializer, Layer, draw, with_seeds
from bnlib.layers.initializers import he


class Conv2d(Layer):
    """Convolution of images: a linear map of each window, the same at every position.

    Parameters
    ----------
    c_in, c_out : int
        Number of input and output channels.
    kernel_size : int or pair of int
        Height and width of the window.
    rng : numpy.random.Generator or list of k of them
        Source of the initial weights. A list gives a leading seed axis; seed ``i`` then is exactly
        the layer built with ``rng[i]``.
    stride : int or pair of int
        Step of the window.
    padding : int or pair of int
        Rows and columns of zeros added on each side.
    groups : int
        Number of equal parts of the channels that are convolved apart; ``c_in`` is a depthwise
        convolution.
    init : callable
        Initializer of the weight, by default :func:`he`. The bias starts at zero.
    bias : bool
        Whether to add a bias to each output channel.
    dtype : dtype
        Floating-point type of the parameters.

    Attributes
    ----------
    parameters : dict
        ``weight`` (c_out, c_in / groups, kh, kw) and ``bias`` (c_out,), with a leading seed axis
        (k, ...) if there is one.

    Raises
    ------
    TypeError
        If ``rng`` is not a generator or a list of them, or a number of channels is no integer.
    ValueError
        If a size is not a positive integer (padding: not negative), ``groups`` does not divide
        the channels, or the window is larger than the padded image.

    Notes
    -----
    Images are (n, c, h, w), or (k, n, c, h, w) with seeds. As everywhere in deep learning, the
    kernel is not flipped. The windows are copied to the columns of a matrix of shape
    (c_in kh kw / groups, n h' w'), so that forward and backward are one matrix product a seed and
    group; the copy takes kh kw / (stride of h x stride of w) times the memory of the input. In
    train mode it is kept for the backward pass, in eval mode it is made again if needed.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Conv2d
    >>> layer = Conv2d(3, 8, 3, rng=np.random.default_rng(0), stride=2, padding=1)
    >>> layer(np.zeros((10, 3, 8, 8))).shape
    (10, 8, 4, 4)
    """

    per_seed = True
    can_skip_input_gradient = True

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int | tuple[int, int],
        *,
        rng: Rng,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        init: Initializer = he,
        bias: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> None:
        for name, value in (("c_in", c_in), ("c_out", c_out), ("groups", groups)):
            check_integer(name, value)
        if c_in % groups or c_out % groups:
            raise ValueError(
                f"groups: expected a divisor of c_in={c_in} and c_out={c_out}, got {groups}"
            )
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride = pair("stride", stride)
        self.padding = pair("padding", padding, smallest=0)
        self.c_in, self.c_out, self.groups = c_in, c_out, groups
        area = self.kernel_size[0] * self.kernel_size[1]
        weight, seeds = draw(
            rng,
            init,
            (c_out, c_in // groups, *self.kernel_size),
            (c_in // groups * area, c_out // groups * area),
            dtype,
        )
        parameters = {"weight": weight}
        if bias:
            parameters["bias"] = np.zeros(with_seeds(seeds, (c_out,)), weight.dtype)
        super().__init__(parameters, seeds=seeds)

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        self._check_dtype(x)
        rank = len(with_seeds(self.seeds, (0, 0, 0, 0)))
        (ph, pw), (kh, kw) = self.padding, self.kernel_size
        if x.ndim != rank or x.shape[-3] != self.c_in:
            expected = "".join(f"{n}, " for n in with_seeds(self.seeds, ()))
            raise ValueError(
                f"{self._label}: x: expected shape ({expected}n, {self.c_in}, h, w), got {x.shape}"
            )
        if x.shape[-2] + 2 * ph < kh or x.shape[-1] + 2 * pw < kw:
            raise ValueError(
                f"{self._label}: x: expected at least the size of the window {self.kernel_size} "
                f"after padding by {self.padding}, got {x.shape}"
            )
        images = x if self.seeds is not None else x[None]  # (k, n, c_in, h, w)
        columns, (n, h, w) = self._columns(images)
        y = self._matrix() @ columns  # (k, groups, c_out / groups, n h' w')
        y = y.reshape(-1, self.c_out, n, h, w)
        if "bias" in self.parameters:
            y += self.parameters["bias"].reshape(-1, self.c_out, 1, 1, 1)
        y = np.ascontiguousarray(y.swapaxes(1, 2)).reshape(*x.shape[:-3], self.c_out, h, w)
        return y, (images, columns if self.training else None)

    def _backward(self, dy: Array, cache: tuple, *, input_gradient: bool = True) -> Array | None:
        images, columns = cache
        if columns is None:
            columns, _ = self._columns(images)
        k, n, _, _, _ = images.shape
        h, w = dy.shape[-2:]
        dy = dy.reshape(k, n, self.c_out, h, w).swapaxes(1, 2)  # (k, c_out, n, h', w')
        dy = np.ascontiguousarray(dy).reshape(k, self.groups, -1, n * h * w)
        weight = self.parameters["weight"]
        self.gradients["weight"] = (dy @ columns.swapaxes(-1, -2)).reshape(weight.shape)
        if "bias" in self.parameters:
            bias = self.parameters["bias"]
            self.gradients["bias"] = dy.sum(axis=-1).reshape(bias.shape)
        if not input_gradient:
            return None
        dcolumns = self._matrix().swapaxes(-1, -2) @ dy
        dx = self._add_columns(dcolumns.reshape(k, self.c_in, *self.kernel_size, n, h, w), images)
        return dx if self.seeds is not None else dx[0]

    def _matrix(self) -> Array:
        """Weight as (k, groups, c_out / groups, c_in kh kw / groups)."""
        k = 1 if self.seeds is None else self.seeds
        return self.parameters["weight"].reshape(k, self.groups, self.c_out // self.groups, -1)

    def _columns(self, images: Array) -> tuple[Array, tuple[int, int, int]]:
        """Copy the windows (k, n, c, h', w', kh, kw) to (k, groups, c kh kw / groups, n h' w')."""
        (ph, pw), (sh, sw) = self.padding, self.stride
        k, n, c, h, w = images.shape
        if ph or pw:
            padded = np.zeros((k, n, c, h + 2 * ph, w + 2 * pw), images.dtype)
            padded[..., ph : ph + h, pw : pw + w] = images
            images = padded
        windows = sliding_window_view(images, self.kernel_size, axis=(-2, -1))
        windows = windows[..., ::sh, ::sw, :, :].transpose(0, 2, 5, 6, 1, 3, 4)
        columns = np.ascontiguousarray(windows)
        return columns.reshape(k, self.groups, -1, columns[0, 0, 0, 0].size), columns.shape[-3:]

    def _add_columns(self, dcolumns: Array, images: Array) -> Array:
        """Add (k, c, kh, kw, n, h', w') up at the places where the windows came from."""
        (ph, pw), (sh, sw) = self.padding, self.stride
        k, n, c, h, w = images.shape
        out_h, out_w = dcolumns.shape[-2:]
        dx = np.zeros((k, c, n, h + 2 * ph, w + 2 * pw), dcolumns.dtype)
        for i in range(self.kernel_size[0]):
            for j in range(self.kernel_size[1]):
                part = dx[..., i : i + sh * out_h : sh, j : j + sw * out_w : sw]
                part += dcolumns[:, :, i, j]
        return np.ascontiguousarray(dx[..., ph : ph + h, pw : pw + w].swapaxes(1, 2))

    def _describe(self) -> list[str]:
        shown = [str(self.c_in), str(self.c_out), f"kernel_size={short(self.kernel_size)}"]
        defaults = {"stride": (1, 1), "padding": (0, 0), "groups": 1}
        for name, default in defaults.items():
            if (value := getattr(self, name)) != default:
                shown.append(f"{name}={short(value)}")
        return shown + ["bias=False"] * ("bias" not in self.parameters)


def pair(name: str, value: int | tuple[int, int], smallest: int = 1) -> tuple[int, int]:
    """Return a size for the height and one for the width, from a pair or from one for both."""
    both = tuple(value) if isinstance(value, Iterable) else (value, value)
    if len(both) != 2 or not all(
        isinstance(v, int | np.integer) and not isinstance(v, bool) and v >= smallest for v in both
    ):
        raise ValueError(
            f"{name}: expected an integer of at least {smallest}, or a pair, got {value!r}"
        )
    return int(both[0]), int(both[1])


def short(value: int | tuple[int, int]) -> str:
    """Show a pair of equal sizes as one."""
    return str(value[0] if isinstance(value, tuple) and value[0] == value[1] else value)
