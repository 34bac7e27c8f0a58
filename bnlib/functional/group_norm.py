r"""Group normalization :cite:p:`wu2018group`: each example over groups of its channels."""

import numpy as np

from bnlib._validation import float_array, seed_axes
from bnlib.functional._normalize import (
    NormCache,
    Parameter,
    check_parameter,
    normalize_backward,
    normalize_forward,
    upstream,
)


def group_norm_forward(
    x: np.ndarray,
    num_groups: int,
    gamma: Parameter = None,
    beta: Parameter = None,
    *,
    eps: float = 1e-5,
) -> tuple[np.ndarray, NormCache]:
    r"""Normalize each example of `x` over groups of channels and all spatial axes.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    Equations 1 to 7 of :cite:t:`wu2018group`.

    Parameters
    ----------
    x : array, shape (n, c), (n, c, l), (n, c, h, w) or (n, c, d, h, w)
        float16, float32 or float64.
    num_groups : int
        Number of groups that the c channels are divided into; must divide c.
    gamma, beta : array, shape (c,), optional
        Scale (default 1) and shift (default 0) of each channel. (k, c) with a leading seed
        axis; `x` is then (k, n, c, ...).
    eps : float
        Added to the variance, in squared units of `x`.

    Returns
    -------
    y : array, shape and dtype of x
    cache : NormCache
        For `group_norm_backward`; the statistics have shape (n, num_groups).

    Raises
    ------
    TypeError
        An argument holds integers or complex numbers.
    ValueError
        num_groups does not divide c, one value per group, a parameter of the wrong shape,
        eps < 0, or eps = 0 with a constant group.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import group_norm_forward
    >>> group_norm_forward(np.array([[1.0, 3.0, 5.0, 25.0]]), 2, eps=0.0)[0]
    array([[-1.,  1., -1.,  1.]])
    """
    x = float_array("x", x)
    seeds = seed_axes(x, gamma if gamma is not None else beta, own=1)
    if x.ndim < seeds + 2:
        raise ValueError(f"x: expected shape (n, c, ...) behind {seeds} seed axes, got {x.shape}")
    channels = x.shape[seeds + 1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(
            f"num_groups: expected a divisor of the {channels} channels, got {num_groups}"
        )
    expected = (*x.shape[:seeds], channels)
    gamma = check_parameter("gamma", gamma, expected, "one value per channel")
    beta = check_parameter("beta", beta, expected, "one value per channel")
    # Groups are an axis of their own: (..., n, num_groups, c / num_groups, ...).
    width = channels // num_groups
    grouped = x.reshape(*x.shape[: seeds + 1], num_groups, width, *x.shape[seeds + 2 :])
    shape = (*x.shape[:seeds], 1, num_groups, width, *(1 for _ in x.shape[seeds + 2 :]))
    axes = tuple(range(seeds + 2, grouped.ndim))
    y, cache = normalize_forward(grouped, gamma, beta, axes=axes, parameter_shape=shape, eps=eps)
    return y.reshape(x.shape), cache


def group_norm_backward(
    dy: np.ndarray, cache: NormCache
) -> tuple[np.ndarray, Parameter, Parameter]:
    r"""Gradients of group normalization.

    .. math:: \frac{\partial L}{\partial x} = \frac{P (\gamma\, \partial L / \partial y)}
        {\sqrt{\sigma^2 + \epsilon}}

    with the projector P of :eq:`eq-backward-pass-projector` in each group.

    Parameters
    ----------
    dy : array, shape of y
        Upstream gradient.
    cache : NormCache
        From `group_norm_forward`.

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
    grouped = cache.x_hat.shape
    at = cache.axes[0]  # the channels of a group; the groups stand before
    shape = (*grouped[: at - 1], grouped[at - 1] * grouped[at], *grouped[at + 1 :])
    dx, dgamma, dbeta = normalize_backward(upstream(dy, shape).reshape(grouped), cache)
    return dx.reshape(shape), dgamma, dbeta
