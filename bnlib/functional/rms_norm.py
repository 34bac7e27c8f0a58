r"""RMS normalization :cite:p:`zhang2019root`: layer norm without the mean."""

from collections.abc import Sequence

import numpy as np

from bnlib._validation import float_array, normalized_axes
from bnlib.functional._normalize import (
    NormCache,
    Parameter,
    normalize_backward,
    normalize_forward,
    upstream,
)
from bnlib.functional.layer_norm import feature_parameters


def rms_norm_forward(
    x: np.ndarray,
    gamma: Parameter = None,
    *,
    eps: float = 1e-5,
    axes: int | Sequence[int] = -1,
) -> tuple[np.ndarray, NormCache]:
    r"""Divide each example of `x` by its root mean square.

    .. math:: y = \gamma \frac{x}{\sqrt{\overline{x^2} + \epsilon}}

    Equation 4 of :cite:t:`zhang2019root`, with eps inside the root.

    Parameters
    ----------
    x : array, shape (m, d) or any other
        float16, float32 or float64.
    gamma : array, shape of the normalized axes, optional
        Scale (default 1): (d,), or (k, d) with a leading seed axis.
    eps : float
        Added to the mean square, in squared units of `x`.
    axes : int or sequence of int
        Axes normalized over.

    Returns
    -------
    y : array, shape and dtype of x
    cache : NormCache
        For `rms_norm_backward`; its `var` is the mean square, its `mean` None.

    Raises
    ------
    TypeError
        An argument holds integers or complex numbers.
    ValueError
        A parameter of the wrong shape, axes out of range, eps < 0, or eps = 0 with an example
        of zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import rms_norm_forward
    >>> rms_norm_forward(np.array([[1.0, 7.0]]), eps=0.0)[0]
    array([[0.2, 1.4]])
    """
    x = float_array("x", x)
    axes = normalized_axes(axes, x.ndim)
    gamma, _, shape = feature_parameters(x, axes, gamma, None)
    return normalize_forward(
        x, gamma, None, axes=axes, parameter_shape=shape, eps=eps, center=False
    )


def rms_norm_backward(dy: np.ndarray, cache: NormCache) -> tuple[np.ndarray, Parameter]:
    r"""Gradients of RMS normalization.

    .. math:: \frac{\partial L}{\partial x} = \frac{g - \hat x\,\overline{g \hat x}}
        {\sqrt{\overline{x^2} + \epsilon}}, \qquad g = \gamma \frac{\partial L}{\partial y}

    Parameters
    ----------
    dy : array, shape of y
        Upstream gradient.
    cache : NormCache
        From `rms_norm_forward`.

    Returns
    -------
    dx : array, shape of x, dtype of dy
    dgamma : array, shape of gamma, or None
        None if the forward pass had no gamma.

    Raises
    ------
    TypeError, ValueError
        `dy` is not a float array of the shape of y.
    """
    return normalize_backward(upstream(dy, cache.x_hat.shape), cache)[:2]
