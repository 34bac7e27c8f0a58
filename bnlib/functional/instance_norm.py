r"""Instance normalization :cite:p:`ulyanov2016instance`: each channel of each example alone."""

import numpy as np

from bnlib._validation import float_array, seed_axes
from bnlib.functional._normalize import NormCache, Parameter
from bnlib.functional.group_norm import group_norm_backward, group_norm_forward


def instance_norm_forward(
    x: np.ndarray, gamma: Parameter = None, beta: Parameter = None, *, eps: float = 1e-5
) -> tuple[np.ndarray, NormCache]:
    r"""Normalize each channel of each example of `x` over its spatial axes.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    Equation 3 of :cite:t:`ulyanov2016instance`: group normalization with one channel a group.

    Parameters
    ----------
    x : array, shape (n, c, l), (n, c, h, w) or (n, c, d, h, w)
        float16, float32 or float64.
    gamma, beta : array, shape (c,), optional
        Scale (default 1) and shift (default 0) of each channel. (k, c) with a leading seed
        axis; `x` is then (k, n, c, ...).
    eps : float
        Added to the variance, in squared units of `x`.

    Returns
    -------
    y : array, shape and dtype of x
    cache : NormCache
        For `instance_norm_backward`; the statistics have shape (n, c).

    Raises
    ------
    TypeError
        An argument holds integers or complex numbers.
    ValueError
        One value per channel, a parameter of the wrong shape, eps < 0, or eps = 0 with a
        constant channel.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import instance_norm_forward
    >>> instance_norm_forward(np.array([[[1.0, 3.0], [5.0, 25.0]]]), eps=0.0)[0]
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    x = float_array("x", x)
    seeds = seed_axes(x, gamma if gamma is not None else beta, own=1)
    if x.ndim < seeds + 3:
        raise ValueError(
            f"x: expected shape (n, c, l) or with more spatial axes, behind {seeds} seed axes, "
            f"got {x.shape}"
        )
    return group_norm_forward(x, x.shape[seeds + 1], gamma, beta, eps=eps)


def instance_norm_backward(
    dy: np.ndarray, cache: NormCache
) -> tuple[np.ndarray, Parameter, Parameter]:
    """Gradients of instance normalization: those of `group_norm_backward`, one channel a group.

    Parameters
    ----------
    dy : array, shape of y
        Upstream gradient.
    cache : NormCache
        From `instance_norm_forward`.

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
    return group_norm_backward(dy, cache)
