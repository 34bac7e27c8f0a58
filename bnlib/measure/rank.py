r"""Ranks that are real numbers: how many directions a set of activations really uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnlib._validation import float_array
from bnlib.layers.base import Array


def participation_rank(x: Array) -> NDArray[np.float64]:
    r"""Compute the effective rank of :cite:t:`daneshmand2020batch`.

    .. math:: r(X) = \frac{(\operatorname{tr} M)^2}{\lVert M \rVert_F^2}
        = \frac{(\sum_i s_i^2)^2}{\sum_i s_i^4}, \qquad M = X^\top X / m

    Parameters
    ----------
    x : array, shape (..., m, d)
        Matrices, such as the activations of m examples for each seed. They are not centred.

    Returns
    -------
    array, shape (...)
        Between 1 and the rank; r if r singular values are equal and the others zero. NaN for a
        zero matrix.

    Raises
    ------
    TypeError
        `x` is not floating-point.
    ValueError
        `x` has fewer than two axes, is empty or not finite.

    Notes
    -----
    :math:`s_i` are the singular values of X. As
    :math:`(\sum_i \lambda_i)^2 \le r \sum_i \lambda_i^2` for r positive numbers, it is a lower
    bound of the rank. Also known as the participation ratio of the eigenvalues of M.

    As nothing is centred, the common mean of the examples counts as a direction, and after a ReLU
    it is the largest one.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.measure import participation_rank
    >>> participation_rank(np.diag([1.0, 1.0, 0.0]))
    np.float64(2.0)
    """
    p = _shares(x, power=2)
    return 1 / np.square(p).sum(axis=-1)


def entropy_rank(x: Array) -> NDArray[np.float64]:
    r"""Compute the effective rank of :cite:t:`roy2007effective`.

    .. math:: \exp\Bigl(-\sum_i p_i \ln p_i\Bigr), \qquad p_i = \frac{s_i}{\sum_j s_j}

    Parameters
    ----------
    x : array, shape (..., m, d)
        Matrices; they are not centred.

    Returns
    -------
    array, shape (...)
        Between 1 and the rank; r if r singular values are equal and the others zero. NaN for a
        zero matrix.

    Raises
    ------
    TypeError, ValueError
        As :func:`participation_rank`.

    Notes
    -----
    The shares are those of the singular values :math:`s_i` themselves, not of their squares: small
    ones count for more than in :func:`participation_rank`.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.measure import entropy_rank
    >>> entropy_rank(np.diag([1.0, 1.0, 0.0])).round(6)
    np.float64(2.0)
    """
    p = _shares(x, power=1)
    logarithms = np.log(p, out=np.zeros_like(p), where=p > 0)
    return np.exp(-(p * logarithms).sum(axis=-1))


def stable_rank(x: Array) -> NDArray[np.float64]:
    r"""Compute the stable rank, :math:`\lVert X \rVert_F^2 / \lVert X \rVert_2^2`.

    Parameters
    ----------
    x : array, shape (..., m, d)
        Matrices; they are not centred.

    Returns
    -------
    array, shape (...)
        Between 1 and the rank. NaN for a zero matrix.

    Raises
    ------
    TypeError, ValueError
        As :func:`participation_rank`.

    Notes
    -----
    :cite:t:`rudelson2007sampling`, who call it the numerical rank. One large singular value is
    enough to make it small.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.measure import stable_rank
    >>> stable_rank(np.diag([2.0, 1.0, 1.0]))
    np.float64(1.5)
    """
    return 1 / _shares(x, power=2).max(axis=-1)


def _shares(x: Array, power: int) -> NDArray[np.float64]:
    """Powers of the singular values, divided by their sum, (..., min(m, d))."""
    x = float_array("x", x).astype(np.float64)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"x: expected shape (..., m, d) and at least one value, got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("x: expected finite values, got a NaN or an infinity")
    s = np.linalg.svd(x, compute_uv=False)
    with np.errstate(invalid="ignore"):  # 0 / 0 of a zero matrix
        s = (s / s[..., :1]) ** power
    return s / s.sum(axis=-1, keepdims=True)
