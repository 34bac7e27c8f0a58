r"""Layer normalization :cite:p:`ba2016layer`: each example over its own features."""

from collections.abc import Sequence

import numpy as np

from bnlib._validation import float_array, normalized_axes, seed_axes
from bnlib.functional._normalize import (
    NormCache,
    Parameter,
    check_parameter,
    normalize_backward,
    normalize_forward,
    upstream,
)


def layer_norm_forward(
    x: np.ndarray,
    gamma: Parameter = None,
    beta: Parameter = None,
    *,
    eps: float = 1e-5,
    axes: int | Sequence[int] = -1,
) -> tuple[np.ndarray, NormCache]:
    r"""Normalize each example of `x` over its own features.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    with mean and variance over `axes`; Section 3 of :cite:t:`ba2016layer`.

    Parameters
    ----------
    x : array, shape (m, d) or any other
        float16, float32 or float64.
    gamma, beta : array, shape of the normalized axes, optional
        Scale (default 1) and shift (default 0): (d,), or (k, d) with a leading seed axis, which
        is then the first axis of `x`.
    eps : float
        Added to the variance, in squared units of `x`.
    axes : int or sequence of int
        Axes normalized over.

    Returns
    -------
    y : array, shape and dtype of x
    cache : NormCache
        For `layer_norm_backward`.

    Raises
    ------
    TypeError
        An argument holds integers or complex numbers.
    ValueError
        One value to normalize over, a parameter of the wrong shape, axes out of range, eps < 0,
        or eps = 0 with a constant example.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import layer_norm_forward
    >>> layer_norm_forward(np.array([[1.0, 3.0]]), eps=0.0)[0]
    array([[-1.,  1.]])
    """
    x = float_array("x", x)
    axes = normalized_axes(axes, x.ndim)
    gamma, beta, shape = feature_parameters(x, axes, gamma, beta)
    return normalize_forward(x, gamma, beta, axes=axes, parameter_shape=shape, eps=eps)


def layer_norm_backward(
    dy: np.ndarray, cache: NormCache
) -> tuple[np.ndarray, Parameter, Parameter]:
    r"""Gradients of layer normalization.

    .. math:: \frac{\partial L}{\partial x} = \frac{P (\gamma\, \partial L / \partial y)}
        {\sqrt{\sigma^2 + \epsilon}}

    with the projector P of :eq:`eq-backward-pass-projector` in each example.

    Parameters
    ----------
    dy : array, shape of y
        Upstream gradient.
    cache : NormCache
        From `layer_norm_forward`.

    Returns
    -------
    dx : array, shape of x, dtype of dy
    dgamma, dbeta : array, shape of gamma, or None
        None for a parameter that the forward pass did not have.

    Raises
    ------
    TypeError, ValueError
        `dy` is not a float array of the shape of y.
    """
    return normalize_backward(upstream(dy, cache.x_hat.shape), cache)


def feature_parameters(
    x: np.ndarray, axes: tuple[int, ...], gamma: Parameter, beta: Parameter
) -> tuple[Parameter, Parameter, tuple[int, ...]]:
    """Check parameters with one value per normalized feature; return them and their shape."""
    seeds = seed_axes(x, gamma if gamma is not None else beta, own=len(axes))
    seeds = min(seeds, axes[0])  # seed axes stand in front of the normalized ones
    expected = x.shape[:seeds] + tuple(x.shape[axis] for axis in axes)
    gamma = check_parameter("gamma", gamma, expected, "the shape of the normalized axes")
    beta = check_parameter("beta", beta, expected, "the shape of the normalized axes")
    shape = tuple(size if axis < seeds or axis in axes else 1 for axis, size in enumerate(x.shape))
    return gamma, beta, shape
