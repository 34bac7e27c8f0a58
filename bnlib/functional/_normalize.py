"""Scale and shift what was standardized: the second half of every norm, and its backward."""

from typing import NamedTuple

import numpy as np

from bnlib._validation import kept_sizes, same_shape
from bnlib.functional._channel_blocks import block_dot, block_sum, kept_shape, layout
from bnlib.functional.standardize import Standardized, standardize, standardize_backward

Parameter = np.ndarray | None


class NormCache(NamedTuple):
    """What a norm's forward pass leaves for its backward pass, in the symbols of the book.

    Attributes
    ----------
    x_hat : array, shape of x
        Standardized input. In group norm in the shape (..., n, num_groups, c / num_groups, ...).
    inv_std : array, shape of the kept axes
        1 / sqrt(var + eps).
    gamma, beta : array, shape of the kept axes, or None
        Scale and shift, as given.
    mean : array, shape of the kept axes, or None
        Mean; None in RMS norm.
    var : array, shape of the kept axes
        Biased variance (divisor: `count`); mean square in RMS norm.
    count : int
        Values in each average.
    axes : tuple of int
        Axes of `x_hat` that were averaged over.
    parameter_shape : tuple of int
        The shape in which gamma and beta broadcast against `x_hat`.
    """

    x_hat: np.ndarray
    inv_std: np.ndarray
    gamma: np.ndarray | None
    beta: np.ndarray | None
    mean: np.ndarray | None
    var: np.ndarray
    count: int  # type: ignore[assignment]  # a tuple has a method of this name
    axes: tuple[int, ...]
    parameter_shape: tuple[int, ...]


def check_parameter(name: str, value: Parameter, shape: tuple[int, ...], like: str) -> Parameter:
    """Return `value`, None or a float array that must have `shape`, that of `like`."""
    return None if value is None else same_shape(name, value, shape, like)


def scale_and_shift(
    x_hat: np.ndarray, gamma: Parameter, beta: Parameter, shape: tuple[int, ...]
) -> np.ndarray:
    """Return gamma * x_hat + beta in a new array; `shape` makes the parameters broadcast."""
    if gamma is None and beta is None:
        return x_hat.copy()
    lay = layout(x_hat.shape, _shared_axes(shape))
    x_hat, y = lay.view(x_hat), np.empty(lay.bncl, x_hat.dtype)
    scale = None if gamma is None else lay.spread(lay.channels(gamma, x_hat.dtype))
    shift = None if beta is None else lay.spread(lay.channels(beta, x_hat.dtype))
    for i, j in lay.blocks:
        np.multiply(x_hat[i, j], 1 if scale is None else scale[i], out=y[i, j])
        if shift is not None:
            y[i, j] += shift[i]
    return lay.restore(y)


def scale_and_shift_backward(
    dy: np.ndarray, x_hat: np.ndarray, gamma: Parameter, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of x_hat, gamma and beta; those of the parameters in `shape`."""
    dx_hat = scale_and_shift(dy, gamma, None, shape)
    lay = layout(x_hat.shape, _shared_axes(shape))
    dy, x_hat = lay.view(dy), lay.view(x_hat)
    dgamma, dbeta = lay.zeros(), lay.zeros()
    for i, j in lay.blocks:
        dy_ij = dy[i, j].astype(x_hat.dtype, copy=False)
        dgamma[i] += block_dot(dy_ij, x_hat[i, j])
        dbeta[i] += block_sum(dy_ij)
    return dx_hat, dgamma.reshape(shape), dbeta.reshape(shape)


def normalize_forward(
    x: np.ndarray,
    gamma: Parameter,
    beta: Parameter,
    *,
    axes: tuple[int, ...],
    parameter_shape: tuple[int, ...],
    eps: float,
    center: bool = True,
) -> tuple[np.ndarray, NormCache]:
    """Standardize over `axes`, then scale and shift: (y in the dtype of x, cache)."""
    z = standardize(x, axes, eps=eps, center=center)
    y = scale_and_shift(z.x_hat, gamma, beta, parameter_shape).astype(x.dtype, copy=False)
    kept = kept_sizes(x.shape, axes)
    mean = None if z.mean is None else z.mean.reshape(kept)
    cache = NormCache(
        z.x_hat,
        z.inv_std.reshape(kept),
        gamma,
        beta,
        mean,
        z.var.reshape(kept),
        z.count,
        axes,
        parameter_shape,
    )
    return y, cache


def normalize_backward(dy: np.ndarray, cache: NormCache) -> tuple[np.ndarray, Parameter, Parameter]:
    """Gradients of x, gamma and beta; None for a parameter that the forward pass did not have."""
    dx_hat, dgamma, dbeta = scale_and_shift_backward(
        dy, cache.x_hat, cache.gamma, cache.parameter_shape
    )
    dx = standardize_backward(dx_hat, standardized(cache))
    return dx, like_parameter(dgamma, cache.gamma), like_parameter(dbeta, cache.beta)


def standardized(cache: NormCache) -> Standardized:
    """Return the part of `cache` that `standardize` made, as it made it."""
    shape = kept_shape(cache.x_hat.shape, cache.axes)
    mean = None if cache.mean is None else cache.mean.reshape(shape)
    var, inv_std = cache.var.reshape(shape), cache.inv_std.reshape(shape)
    return Standardized(cache.x_hat, mean, var, inv_std, cache.count, cache.axes)


def like_parameter(gradient: np.ndarray, parameter: Parameter) -> Parameter:
    """`gradient` in the shape and dtype of `parameter`, None if there is none."""
    return None if parameter is None else gradient.reshape(parameter.shape).astype(parameter.dtype)


def upstream(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return `dy` as a float array; it must have the `shape` of the forward pass's result."""
    return same_shape("dy", dy, shape, "the shape of y")


def _shared_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes along which a parameter of broadcast `shape` has one value."""
    return tuple(axis for axis, size in enumerate(shape) if size == 1)
