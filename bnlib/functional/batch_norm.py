r"""Batch normalization :cite:p:`ioffe2015batch`: forward, inference, backward, double backward."""

from collections.abc import Sequence

import numpy as np

from bnlib.functional._blocks import kept_shape
from bnlib.functional._check import (
    check_eps,
    float_array,
    normalized_axes,
    same_shape,
    seed_axes,
)
from bnlib.functional.affine import (
    NormCache,
    Parameter,
    check_parameter,
    like_parameter,
    normalize_forward,
    scale_and_shift,
    scale_and_shift_backward,
    upstream,
)
from bnlib.functional.standardize import project

Axes = int | Sequence[int] | None


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
    >>> y, cache = batch_norm_forward(np.array([[1.0], [2.0], [3.0], [6.0]]), eps=0.0)
    >>> y.ravel().round(3)
    array([-1.069, -0.535,  0.   ,  1.604])
    >>> cache.mean, cache.var
    (array([3.]), array([3.5]))
    """
    x = float_array("x", x)
    axes = _channel_axes(x, axes, gamma if gamma is not None else beta)
    kept = _kept(x.shape, axes)
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
    x_hat, gamma, axes, shape = cache.x_hat, cache.gamma, cache.axes, cache.parameter_shape
    u = same_shape("ddx", ddx, x_hat.shape, "the shape of x")
    dy = upstream(dy, x_hat.shape)
    kept = _kept(x_hat.shape, axes)
    ddgamma = check_parameter("ddgamma", ddgamma, kept, "the shape of gamma")
    ddbeta = check_parameter("ddbeta", ddbeta, kept, "the shape of beta")
    s = cache.inv_std.reshape(shape)
    g = dy if gamma is None else gamma.reshape(shape) * dy
    s_Pu, _, mean_u_x_hat = project(u, x_hat, axes, s)

    ddy = s_Pu if gamma is None else gamma.reshape(shape) * s_Pu
    v = -s * (u * (g * x_hat).mean(axes, keepdims=True) + g * mean_u_x_hat)  # w.r.t. x_hat
    if ddgamma is not None:
        ddy = ddy + ddgamma.reshape(shape) * x_hat
        v = v + ddgamma.reshape(shape) * dy
    if ddbeta is not None:
        ddy = ddy + ddbeta.reshape(shape)
    s_Pv, _, _ = project(v.astype(x_hat.dtype, copy=False), x_hat, axes, s)
    dx = s_Pv - s * x_hat * (g * s_Pu).mean(axes, keepdims=True)  # the second term through s
    dgamma = like_parameter((dy * s_Pu).sum(axes), gamma)
    return ddy.astype(dy.dtype, copy=False), dx.astype(dy.dtype, copy=False), dgamma


def batch_norm_inference(
    x: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    gamma: Parameter = None,
    beta: Parameter = None,
    *,
    eps: float = 1e-5,
    axes: Axes = None,
) -> np.ndarray:
    r"""Normalize each channel of `x` with given statistics (eval mode).

    Algorithm 2 of :cite:t:`ioffe2015batch`, line 11; :eq:`eq-inference-batch-norm`.
    Each example is normalized for itself: the result does not depend on the mini-batch.

    Parameters
    ----------
    x : array, shape (m, d), (n, c, l), (n, c, h, w) or (n, c, d, h, w)
    running_mean, running_var : array, shape of the kept axes
        Statistics to normalize with. (k, d) for x of shape (k, m, d).
    gamma, beta : array, shape of the kept axes, optional
    eps, axes
        As in `batch_norm_forward`.

    Returns
    -------
    array, shape and dtype of x

    Raises
    ------
    TypeError
        An argument holds integers or complex numbers.
    ValueError
        A wrong shape, a negative variance, eps < 0, or eps = 0 with a variance of 0.

    Examples
    --------
    >>> batch_norm_inference(np.array([[5.0]]), np.array([3.0]), np.array([4.0]), eps=0.0)
    array([[1.]])
    """
    x, x_hat, _, gamma, beta, shape = _inference(
        x, running_mean, running_var, gamma, beta, eps, axes
    )
    return scale_and_shift(x_hat, gamma, beta, shape).astype(x.dtype, copy=False)


def batch_norm_inference_backward(
    dy: np.ndarray,
    x: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    gamma: Parameter = None,
    *,
    eps: float = 1e-5,
    axes: Axes = None,
) -> tuple[np.ndarray, Parameter, np.ndarray]:
    r"""Gradients of `batch_norm_inference`, in which the statistics are constants.

    .. math:: \frac{\partial L}{\partial x}
        = \frac{\gamma}{\sqrt{\sigma_{run}^2 + \epsilon}} \frac{\partial L}{\partial y}

    No projector: :eq:`eq-inference-backward`.

    Parameters
    ----------
    dy : array, shape of x
        Upstream gradient.
    x, running_mean, running_var, gamma, eps, axes
        As in `batch_norm_inference`.

    Returns
    -------
    dx : array, shape of x, dtype of dy
    dgamma : array, shape of gamma, or None if there is no gamma
    dbeta : array, shape of the kept axes
        Gradient of a shift, whether or not there is one.

    Raises
    ------
    TypeError, ValueError
        As in `batch_norm_inference`; `dy` is not a float array of the shape of x.
    """
    x, x_hat, inv_std, gamma, _, shape = _inference(
        x, running_mean, running_var, gamma, None, eps, axes
    )
    dy = upstream(dy, x.shape)
    dx_hat, dgamma, dbeta = scale_and_shift_backward(dy, x_hat, gamma, shape)
    dx = (dx_hat * inv_std).astype(dy.dtype, copy=False)
    like = np.asarray(running_mean)
    return dx, like_parameter(dgamma, gamma), like_parameter(dbeta, like)


def _inference(
    x: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    gamma: Parameter,
    beta: Parameter,
    eps: float,
    axes: Axes,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Parameter, Parameter, tuple[int, ...]]:
    """Check the arguments; return x, x_hat, inv_std, gamma, beta and their broadcast shape."""
    x = float_array("x", x)
    check_eps(eps)
    axes = _channel_axes(x, axes, running_mean)
    shape, kept = kept_shape(x.shape, axes), _kept(x.shape, axes)
    mean = same_shape("running_mean", running_mean, kept, "one value per channel")
    var = same_shape("running_var", running_var, kept, "one value per channel")
    gamma = check_parameter("gamma", gamma, kept, "one value per channel")
    beta = check_parameter("beta", beta, kept, "one value per channel")
    if np.any(var < 0):
        raise ValueError(f"running_var: expected variances >= 0, got {var.min()}")
    if eps == 0 and not var.all():
        raise ValueError("eps: 0 needs a positive variance, but running_var has a 0")
    dtype = np.result_type(x, np.float32)
    inv_std = (1 / np.sqrt(var.astype(np.float64) + eps)).astype(dtype).reshape(shape)
    x_hat = (x - mean.astype(dtype).reshape(shape)) * inv_std
    return x, x_hat, inv_std, gamma, beta, shape


def _channel_axes(x: np.ndarray, axes: Axes, parameter: Parameter) -> tuple[int, ...]:
    """Axes to average over: `axes`, or all but the seed axes of `parameter` and the channels."""
    if axes is not None:
        return normalized_axes(axes, x.ndim)
    seeds = seed_axes(x, parameter, own=1)
    if x.ndim < seeds + 2:
        wanted = "(m, d)" if seeds == 0 else f"(k, m, d), as a parameter has {seeds} seed axes,"
        raise ValueError(f"x: expected shape {wanted} or with spatial axes behind, got {x.shape}")
    return tuple(axis for axis in range(x.ndim) if axis >= seeds and axis != seeds + 1)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)
