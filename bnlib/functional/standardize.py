r"""The one operation behind all activation normalizers, its backward and double backward.

Standardize over some axes, then scale and shift. Batch, layer, instance and group norm differ
in the axes alone; RMS norm leaves the mean where it is.
"""

import math
from typing import NamedTuple

import numpy as np

from bnlib._validation import (
    check_eps,
    float_array,
    normalized_axes,
    same_shape,
    working_dtype,
)
from bnlib.functional._channel_blocks import Layout, block_dot, block_sum, kept_shape, layout

LARGE = 8  # standard deviations: a larger mean is corrected for what rounding left in it


class Standardized(NamedTuple):
    """What `standardize` returns. Statistics have length 1 on the axes averaged over.

    Attributes
    ----------
    x_hat : array, shape of x
        Standardized values.
    mean : array, shape of x_hat with length 1 on `axes`, or None
        Mean; None if not centred.
    var : array, shape of mean
        Biased variance (divisor: `count`); mean square if not centred.
    inv_std : array, shape of mean
        1 / sqrt(var + eps).
    count : int
        Values in each average.
    axes : tuple of int
        Axes averaged over.
    """

    x_hat: np.ndarray
    mean: np.ndarray | None
    var: np.ndarray
    inv_std: np.ndarray
    count: int  # type: ignore[assignment]  # a tuple has a method of this name
    axes: tuple[int, ...]


def standardize(
    x: np.ndarray, axes: int | tuple[int, ...], *, eps: float = 1e-5, center: bool = True
) -> Standardized:
    r"""Shift and scale `x` to mean 0 and variance 1 over `axes`.

    .. math:: \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}

    The first three lines of Algorithm 1 of :cite:t:`ioffe2015batch`, for any axes.

    Parameters
    ----------
    x : array, any shape
        float16, float32 or float64.
    axes : int or tuple of int
        Axes that are averaged over.
    eps : float
        Added to the variance, in squared units of `x`. Zero is allowed where no channel is
        constant.
    center : bool
        Subtract the mean; without, :math:`\mu = 0` and `var` is the mean square (RMS norm).

    Returns
    -------
    Standardized
        `x_hat` and the statistics in the working precision: float32 for float16 input, else
        the precision of `x`.

    Raises
    ------
    TypeError
        `x` holds integers or complex numbers.
    ValueError
        `axes` out of range, an empty `x`, one value per channel (the result would be 0
        whatever the input), eps < 0, or eps = 0 with a constant channel.

    Notes
    -----
    A corrected two-pass algorithm :cite:p:`chan1983algorithms`: the variance comes from
    differences to the mean, and where the mean is large beside the standard deviation, what
    rounding left in it is found from the same differences and taken off. Two large numbers are
    never subtracted from each other, as they are in :math:`E[x^2] - E[x]^2`, and a constant
    channel gives exactly 0: its differences are equal, and few bits long.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import standardize
    >>> standardize(np.array([1.0, 2.0, 3.0, 6.0]), axes=0, eps=0.0).x_hat.round(3)
    array([-1.069, -0.535,  0.   ,  1.604])
    """
    x = float_array("x", x)
    check_eps(eps)
    axes = normalized_axes(axes, x.ndim)
    count = math.prod(x.shape[axis] for axis in axes)
    if x.size == 0:
        raise ValueError(f"x: expected at least one value, got shape {x.shape}")
    if center and count == 1:
        raise ValueError(
            f"x: expected more than one value per channel, got one: shape {x.shape}, axes {axes}"
        )
    lay = layout(x.shape, axes)
    values, x_hat = lay.view(x), np.empty(lay.bncl, working_dtype(x))
    mean = _mean(values, x_hat.dtype, lay, count) if center else lay.zeros()
    mean, var = _deviations(values, x_hat, mean, lay, count)
    if eps == 0 and (var <= 0).any():
        raise ValueError("eps: 0 needs a positive variance, but x has a constant channel")
    inv_std = 1 / np.sqrt(var + eps)
    scale = lay.spread(inv_std.astype(x_hat.dtype))
    for i, j in lay.blocks:
        x_hat[i, j] *= scale[i]

    shape = kept_shape(x.shape, axes)
    mean, var, inv_std = (s.astype(x_hat.dtype).reshape(shape) for s in (mean, var, inv_std))
    return Standardized(lay.restore(x_hat), mean if center else None, var, inv_std, count, axes)


def _mean(x: np.ndarray, dtype: np.dtype, lay: Layout, count: int) -> np.ndarray:
    """Mean of (b, n, c, l) over n and l, as (b, 1, c, 1), up to rounding in `dtype`."""
    total = lay.zeros()
    for i, j in lay.blocks:
        total[i] += block_sum(x[i, j].astype(dtype, copy=False))
    return total / count


def _deviations(
    x: np.ndarray, d: np.ndarray, mean: np.ndarray, lay: Layout, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Write x - mean into `d`, all (b, n, c, l); return the exact mean and the variance."""
    mean = mean.astype(d.dtype)
    shift, square = lay.spread(mean), lay.zeros()
    for i, j in lay.blocks:
        np.subtract(x[i, j], shift[i], out=d[i, j])
        square[i] += block_dot(d[i, j], d[i, j])
    var = square / count
    if (mean**2 > LARGE**2 * var).any():
        left = _mean(d, d.dtype, lay, count)  # what rounding left in the mean
        d -= lay.spread(left.astype(d.dtype))
        mean, var = mean + left, var - left**2
    return mean, var


def project(
    g: np.ndarray,
    x_hat: np.ndarray,
    axes: tuple[int, ...],
    scale: np.ndarray,
    *,
    center: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Apply the projector of standardization to `g` and scale the result.

    .. math:: s\,P g = s\,\bigl(g - \overline{g} - \hat x\,\overline{g \hat x}\bigr)

    At eps = 0, P is the orthogonal projector onto the complement of span{1, x_hat} in each
    channel (:eq:`eq-backward-pass-projector`).

    Parameters
    ----------
    g, x_hat : array, any shape
        What is projected, and the standardized values.
    axes : tuple of int
        Axes that are averaged over.
    scale : array, shape of x_hat with length 1 on `axes`
        `s`.
    center : bool
        Whether the mean was subtracted in the forward pass; without, P leaves means alone.

    Returns
    -------
    projected : array, shape of g
        In the dtype of `g`.
    mean_g, mean_g_x_hat : array, shape of g with length 1 on `axes`
        The two averages, float64, with length 1 on `axes`.
    """
    lay = layout(x_hat.shape, axes)
    g_view, x_view = lay.view(g), lay.view(x_hat)
    mean_g, mean_g_x_hat = lay.zeros(), lay.zeros()
    for i, j in lay.blocks:
        g_ij = g_view[i, j].astype(x_hat.dtype, copy=False)
        mean_g[i] += block_sum(g_ij)
        mean_g_x_hat[i] += block_dot(g_ij, x_view[i, j])
    count = math.prod(x_hat.shape[axis] for axis in axes)
    mean_g /= count
    mean_g_x_hat /= count

    a, b, s = (
        lay.spread(lay.channels(statistic, x_hat.dtype))
        for statistic in (mean_g, mean_g_x_hat, scale)
    )
    projected = np.empty(lay.bncl, x_hat.dtype)
    for i, j in lay.blocks:
        d = projected[i, j]
        np.multiply(x_view[i, j], -b[i], out=d)
        d += g_view[i, j]
        if center:
            d -= a[i]
        d *= s[i]
    statistics = kept_shape(x_hat.shape, axes)
    projected = lay.restore(projected).astype(g.dtype, copy=False)
    return projected, mean_g.reshape(statistics), mean_g_x_hat.reshape(statistics)


def standardize_backward(dx_hat: np.ndarray, cache: Standardized) -> np.ndarray:
    r"""Gradient with respect to `x`, given the one with respect to `x_hat`.

    .. math:: \frac{\partial L}{\partial x} = \frac{P\, g}{\sqrt{\sigma^2 + \epsilon}},
        \qquad g = \frac{\partial L}{\partial \hat x}

    (:eq:`eq-backward-pass-projector`).

    Parameters
    ----------
    dx_hat : array, shape of x
        Upstream gradient g.
    cache : Standardized
        What `standardize` returned.

    Returns
    -------
    array, shape of x
        In the dtype of `dx_hat`.

    Raises
    ------
    TypeError, ValueError
        `dx_hat` is not a float array of the shape of `x`.

    Examples
    --------
    A common shift of x changes nothing:

    >>> import numpy as np
    >>> from bnlib.functional import standardize, standardize_backward
    >>> cache = standardize(np.array([1.0, 2.0, 3.0, 6.0]), axes=0, eps=0.0)
    >>> standardize_backward(np.ones(4), cache).round(12) + 0.0
    array([0., 0., 0., 0.])
    """
    dx_hat = same_shape("dx_hat", dx_hat, cache.x_hat.shape, "the shape of x")
    center = cache.mean is not None
    return project(dx_hat, cache.x_hat, cache.axes, cache.inv_std, center=center)[0]


def standardize_double_backward(
    ddx: np.ndarray, dx_hat: np.ndarray, cache: Standardized
) -> tuple[np.ndarray, np.ndarray]:
    r"""Gradients of `standardize_backward` itself.

    With :math:`u` the gradient with respect to dx, :math:`g = \partial L/\partial \hat x` and
    :math:`s = 1/\sqrt{\sigma^2 + \epsilon}`:

    .. math:: \frac{\partial}{\partial g} = s P u, \qquad
        \frac{\partial}{\partial x} = s P v - s\, \hat x\, \overline{g\, s P u}, \qquad
        v = -s\,(u\, \overline{g \hat x} + g\, \overline{u \hat x})

    (:eq:`eq-backward-pass-double`).

    Parameters
    ----------
    ddx : array, shape of x
        u, the gradient with respect to what `standardize_backward` returned.
    dx_hat : array, shape of x
        g, the upstream gradient that it was called with.
    cache : Standardized
        What `standardize` returned.

    Returns
    -------
    ddx_hat, dx : array, shape of x
        Gradients with respect to `dx_hat` and to `x`, in the dtypes of `ddx` and `dx_hat`.

    Raises
    ------
    TypeError, ValueError
        `ddx` or `dx_hat` is not a float array of the shape of `x`.

    Examples
    --------
    The backward pass is linear in `dx_hat`:

    >>> import numpy as np
    >>> from bnlib.functional import standardize, standardize_backward, standardize_double_backward
    >>> cache = standardize(np.array([1.0, 2.0, 3.0, 6.0]), axes=0)
    >>> u, g = np.array([1.0, 0.0, 2.0, 0.0]), np.array([0.0, 1.0, 0.0, 3.0])
    >>> ddx_hat, _ = standardize_double_backward(u, g, cache)
    >>> bool(np.isclose(ddx_hat @ g, u @ standardize_backward(g, cache)))
    True
    """
    x_hat, s, axes = cache.x_hat, cache.inv_std, cache.axes
    u = same_shape("ddx", ddx, x_hat.shape, "the shape of x")
    g = same_shape("dx_hat", dx_hat, x_hat.shape, "the shape of x")
    s_Pu, _, mean_u_x_hat = project(u, x_hat, axes, s, center=cache.mean is not None)
    v = -s * (u * (g * x_hat).mean(axes, keepdims=True) + g * mean_u_x_hat)  # w.r.t. x_hat
    s_Pv = standardize_backward(v, cache)
    dx = s_Pv - s * x_hat * (g * s_Pu).mean(axes, keepdims=True)  # the second term through s
    return s_Pu, dx.astype(g.dtype, copy=False)
