r"""Batch normalization in train mode :cite:p:`ioffe2015batch`, with its double backward."""

import numpy as np

from bnlib._validation import Axes, channel_axes, float_array, kept_sizes
from bnlib.functional._channel_blocks import kept_shape
from bnlib.functional._normalize import (
    NormCache,
    Parameter,
    check_parameter,
    like_parameter,
    normalize_forward,
    standardized,
    upstream,
)
from bnlib.functional.standardize import (
    project,
    standardize_backward,
    standardize_double_backward,
)


def batch_norm_forward(
    x: np.ndarray,
    gamma: Parameter = None,
    beta: Parameter = None,
    *,
    eps: float = 1e-5,
    axes: Axes = None,
) -> tuple[np.ndarray, NormCache]:
    r"""Normalize each channel of `x` over the mini-batch (train mode).

    .. math:: y = \gamma \frac{x - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}} + \beta

    Algorithm 1 of :cite:t:`ioffe2015batch`; :eq:`eq-forward-pass-batch-norm`.

    Parameters
    ----------
    x : array, shape (m, d), (n, c, l), (n, c, h, w) or (n, c, d, h, w)
        Mini-batch, float16, float32 or float64. With `axes`, any shape.
    gamma, beta : array, shape of the kept axes: (d,) or (c,), optional
        Scale (default 1) and shift (default 0). With leading seed axes, (k, d), the channel
        axis of `x` is the one behind the mini-batch: x is (k, m, d).
    eps : float
        Added to the variance, in squared units of `x`.
    axes : int or sequence of int, optional
        Axes averaged over; by default all but the channel axis (and seed axes).

    Returns
    -------
    y : array, shape and dtype of x
    cache : NormCache
        For `batch_norm_backward`; holds the batch `mean`, the biased `var` and the `count` that
        `RunningStatistics.update` needs.

    Raises
    ------
    TypeError
        An argument holds integers or complex numbers.
    ValueError
        One value per channel, an empty mini-batch, a parameter of the wrong shape, axes out of
        range, eps < 0, or eps = 0 with a constant channel.

    Notes
    -----
    The variance is the biased one (divisor m). See `standardize` for the precision.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import batch_norm_forward
    >>> y, cache = batch_norm_forward(np.array([[1.0], [2.0], [3.0], [6.0]]), eps=0.0)
    >>> y.ravel().round(3)
    array([-1.069, -0.535,  0.   ,  1.604])
    >>> cache.mean, cache.var
    (array([3.]), array([3.5]))
    """
    x = float_array("x", x)
    axes = channel_axes(x, axes, gamma if gamma is not None else beta)
    kept = kept_sizes(x.shape, axes)
    gamma = check_parameter("gamma", gamma, kept, "one value per channel")
    beta = check_parameter("beta", beta, kept, "one value per channel")
    shape = kept_shape(x.shape, axes)
    return normalize_forward(x, gamma, beta, axes=axes, parameter_shape=shape, eps=eps)


def batch_norm_backward(
    dy: np.ndarray, cache: NormCache
) -> tuple[np.ndarray, Parameter, Parameter]:
    r"""Gradients of batch normalization in train mode.

    .. math:: \frac{\partial L}{\partial x} = \frac{\gamma}{\sqrt{\sigma_B^2 + \epsilon}}
        \Bigl(g - \overline{g} - \hat x\, \overline{g \hat x}\Bigr), \qquad
        g = \frac{\partial L}{\partial y}

    Section 3 of :cite:t:`ioffe2015batch`, in the compact form :eq:`eq-backward-pass-compact`.

    Parameters
    ----------
    dy : array, shape of y
        Upstream gradient.
    cache : NormCache
        From `batch_norm_forward`.

    Returns
    -------
    dx : array, shape of x, dtype of dy
    dgamma, dbeta : array, shape of gamma, or None
        None for a parameter that the forward pass did not have.

    Raises
    ------
    TypeError, ValueError
        `dy` is not a float array of the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import batch_norm_backward, batch_norm_forward
    >>> y, cache = batch_norm_forward(np.array([[1.0], [2.0], [3.0], [6.0]]), eps=0.0)
    >>> dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [0.0], [0.0], [0.0]]), cache)
    >>> dx.ravel().round(3)  # sums to 0, and is orthogonal to x_hat
    array([ 0.248, -0.21 , -0.134,  0.095])
    """
    dy = upstream(dy, cache.x_hat.shape)
    scale = cache.inv_std if cache.gamma is None else cache.gamma * cache.inv_std
    dx, mean_dy, mean_dy_x_hat = project(
        dy, cache.x_hat, cache.axes, scale.reshape(cache.parameter_shape)
    )
    dgamma = like_parameter(cache.count * mean_dy_x_hat, cache.gamma)
    return dx, dgamma, like_parameter(cache.count * mean_dy, cache.beta)


def batch_norm_double_backward(
    ddx: np.ndarray,
    ddgamma: Parameter,
    ddbeta: Parameter,
    dy: np.ndarray,
    cache: NormCache,
) -> tuple[np.ndarray, np.ndarray, Parameter]:
    r"""Gradients of the backward pass itself (:eq:`eq-backward-pass-double`).

    With :math:`L' = \langle u, dx\rangle + \langle u_\gamma, d\gamma\rangle
    + \langle u_\beta, d\beta\rangle`, the derivatives of L' with respect to what
    `batch_norm_backward` was computed from.

    Parameters
    ----------
    ddx : array, shape of x
        u, the gradient with respect to dx.
    ddgamma, ddbeta : array, shape of gamma, or None
        The gradients with respect to dgamma and dbeta; None stands for 0.
    dy : array, shape of y
        The upstream gradient that `batch_norm_backward` was called with.
    cache : NormCache
        From `batch_norm_forward`.

    Returns
    -------
    ddy, dx : array, shape of x
        Gradients with respect to dy and to x.
    dgamma : array, shape of gamma, or None
        Gradient with respect to gamma.

    Raises
    ------
    TypeError, ValueError
        An argument is not a float array of the shape named above.
    """
    x_hat, gamma, shape = cache.x_hat, cache.gamma, cache.parameter_shape
    dy = upstream(dy, x_hat.shape)
    kept = kept_sizes(x_hat.shape, cache.axes)
    ddgamma = check_parameter("ddgamma", ddgamma, kept, "the shape of gamma")
    ddbeta = check_parameter("ddbeta", ddbeta, kept, "the shape of beta")
    scale = np.ones_like(cache.inv_std) if gamma is None else gamma
    scale = scale.reshape(shape).astype(x_hat.dtype, copy=False)
    z = standardized(cache)

    ddx_hat, dx = standardize_double_backward(ddx, scale * dy, z)
    ddy = scale * ddx_hat
    dgamma = like_parameter((dy * ddx_hat).sum(cache.axes), gamma)
    if ddgamma is not None:  # dgamma was the sum of dy * x_hat
        ddy = ddy + ddgamma.reshape(shape) * x_hat
        dx = dx + standardize_backward(ddgamma.reshape(shape) * dy, z)
    if ddbeta is not None:  # dbeta was the sum of dy
        ddy = ddy + ddbeta.reshape(shape)
    return ddy.astype(dy.dtype, copy=False), dx.astype(dy.dtype, copy=False), dgamma
