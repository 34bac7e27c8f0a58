r"""Numerical gradients: the check that every hand-derived backward pass has to stand."""

from collections.abc import Callable

import numpy as np

from bnlib._validation import float_array


def numerical_gradient(
    f: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    upstream: np.ndarray | float,
    h: float = 1e-6,
) -> np.ndarray:
    r"""Gradient of <upstream, f(x)> by central differences.

    .. math:: \frac{\partial L}{\partial x_i} \approx
        \frac{\langle g, f(x + h e_i)\rangle - \langle g, f(x - h e_i)\rangle}{2h}

    :eq:`eq-backward-pass-central-difference`.

    Parameters
    ----------
    f : callable
        Takes an array of the shape of `x` and returns an array.
    x : array, any shape
        float64; central differences in lower precision say little.
    upstream : array, shape of f(x)
        The upstream gradient g. Make it random: with all ones, many wrong backward passes of a
        normalization look right.
    h : float
        Step, in units of `x`. The truncation error grows as h**2, the rounding error as 1/h.

    Returns
    -------
    array, shape of x

    Raises
    ------
    TypeError
        `x` is not float64.
    ValueError
        `upstream` has not the shape of f(x), or h <= 0.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import numerical_gradient
    >>> numerical_gradient(lambda x: x**2, np.array([1.0, 3.0]), np.array([1.0, 10.0])).round(6)
    array([ 2., 60.])
    """
    x = float_array("x", x)
    if x.dtype != np.float64:
        raise TypeError(f"x: expected float64, got {x.dtype}")
    if not h > 0:
        raise ValueError(f"h: expected a step > 0, got {h}")
    upstream, shape = np.asarray(upstream), np.shape(f(x))
    if upstream.shape != shape:
        raise ValueError(f"upstream: expected shape {shape} (that of f(x)), got {upstream.shape}")
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        gradient[index] = np.sum(upstream * (f(x + step) - f(x - step))) / (2 * h)
    return gradient


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    r"""Largest difference of `a` and `b`, relative to the larger of their largest values.

    .. math:: \frac{\max_i |a_i - b_i|}{\max(\max_i |a_i|, \max_i |b_i|)}

    Parameters
    ----------
    a, b : array, any shape

    Returns
    -------
    float
        0 if both are zero everywhere.

    Raises
    ------
    ValueError
        The shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import relative_error
    >>> relative_error(np.array([1.0, 0.0]), np.array([1.0, 0.5]))
    0.5
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f"b: expected shape {a.shape} (that of a), got {b.shape}")
    largest = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    return 0.0 if largest == 0 else float(np.abs(a - b).max() / largest)
