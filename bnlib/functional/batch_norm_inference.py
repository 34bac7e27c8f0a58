r"""Batch normalization in eval mode :cite:p:`ioffe2015batch`: forward and backward."""

import numpy as np

from bnlib._validation import (
    Axes,
    channel_axes,
    check_eps,
    float_array,
    kept_sizes,
    same_shape,
    working_dtype,
)
from bnlib.functional._channel_blocks import kept_shape
from bnlib.functional._normalize import (
    Parameter,
    check_parameter,
    like_parameter,
    scale_and_shift,
    scale_and_shift_backward,
    upstream,
)


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
    >>> import numpy as np
    >>> from bnlib.functional import batch_norm_inference
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
    return dx, like_parameter(dgamma, gamma), dbeta.reshape(like.shape).astype(like.dtype)


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
    axes = channel_axes(x, axes, running_mean)
    shape, kept = kept_shape(x.shape, axes), kept_sizes(x.shape, axes)
    mean = same_shape("running_mean", running_mean, kept, "one value per channel")
    var = same_shape("running_var", running_var, kept, "one value per channel")
    gamma = check_parameter("gamma", gamma, kept, "one value per channel")
    beta = check_parameter("beta", beta, kept, "one value per channel")
    if np.any(var < 0):
        raise ValueError(f"running_var: expected variances >= 0, got {var.min()}")
    if eps == 0 and not var.all():
        raise ValueError("eps: 0 needs a positive variance, but running_var has a 0")
    dtype = working_dtype(x)
    inv_std = (1 / np.sqrt(var.astype(np.float64) + eps)).astype(dtype).reshape(shape)
    x_hat = (x - mean.astype(dtype).reshape(shape)) * inv_std
    return x, x_hat, inv_std, gamma, beta, shape
