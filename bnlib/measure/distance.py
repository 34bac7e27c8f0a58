"""Distances between the distributions of an activation, such as those at two steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnlib.layers.base import Array
from bnlib.measure.activations import Moments, checked_activations, moments_of


def wasserstein_distance(a: Array, b: Array, axes: int | Sequence[int] = -2) -> NDArray[np.float64]:
    r"""Compute the 1-Wasserstein distance of each unit's activations.

    .. math:: W_1 = \frac{1}{m} \sum_{i=1}^{m} \lvert a_{(i)} - b_{(i)} \rvert

    with the sorted values :math:`a_{(i)}`, :math:`b_{(i)}`.

    Parameters
    ----------
    a, b : array, shape (..., m, d)
        Two samples of one shape, such as the activations before and after a step. The order of
        the examples has no influence.
    axes : int or sequence of int
        Axes of the examples, as in :func:`activation_moments`.

    Returns
    -------
    array, shape of the kept axes
        In the units of the activations.

    Raises
    ------
    TypeError
        A sample is not floating-point.
    ValueError
        The shapes differ, the samples are empty, or an axis is out of range.

    Notes
    -----
    Two samples of one size: their distance is that of the sorted values. It is what
    :func:`scipy.stats.wasserstein_distance` returns (:cite:t:`virtanen2020scipy`), for all units
    at once.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.measure import wasserstein_distance
    >>> a = np.array([[0.0], [1.0], [2.0]])
    >>> wasserstein_distance(a, a[::-1] + 0.5)
    array([0.5])
    """
    a, axes = checked_activations("a", a, axes)
    b, _ = checked_activations("b", b, axes)
    if a.shape != b.shape:
        raise ValueError(f"b: expected the shape {a.shape} of a, got {b.shape}")
    first, second = (np.sort(_last(x, axes), axis=-1) for x in (a, b))
    return np.abs(first - second).mean(axis=-1)


def symmetric_kl(a: Array, b: Array, axes: int | Sequence[int] = -2) -> NDArray[np.float64]:
    r"""Compute the symmetric Kullback-Leibler divergence of Gaussians fitted to each unit.

    .. math:: J = \operatorname{KL}(p \Vert q) + \operatorname{KL}(q \Vert p)
        = \frac{\sigma_a^2 + \delta^2}{2 \sigma_b^2} + \frac{\sigma_b^2 + \delta^2}{2 \sigma_a^2}
        - 1, \qquad \delta = \mu_a - \mu_b

    Parameters
    ----------
    a, b : array, shape (..., m, d)
        Two samples; the sizes of the axes of the examples may differ.
    axes : int or sequence of int
        Axes of the examples, as in :func:`activation_moments`.

    Returns
    -------
    array, shape of the kept axes
        In nats. Infinite if one unit is constant and the other is another
        constant or not constant.

    Raises
    ------
    TypeError
        A sample is not floating-point.
    ValueError
        The shapes do not fit, a sample is empty, or an axis is out of range.

    Notes
    -----
    The sum of both directions, as :cite:t:`kullback1951information` define their J. Unlike the
    Wasserstein distance it does not change when both samples are scaled by the same factor.

    Examples
    --------
    Two units of variance 1 whose means differ by 1:

    >>> import numpy as np
    >>> from bnlib.measure import symmetric_kl
    >>> a = np.array([[-1.0], [1.0]])
    >>> symmetric_kl(a, a + 1)
    array([1.])
    """
    p, q = _moments(a, b, axes)
    gap, var_p, var_q = np.square(p.mean - q.mean), np.square(p.std), np.square(q.std)
    with np.errstate(divide="ignore", invalid="ignore"):
        j = (var_p + gap) / (2 * var_q) + (var_q + gap) / (2 * var_p) - 1
    return np.where((gap == 0) & (var_p == var_q), 0.0, j)


def moment_difference(a: Array, b: Array, axes: int | Sequence[int] = -2) -> Moments:
    """Compute by how much the moments of each unit differ: those of b minus those of a.

    Parameters
    ----------
    a, b : array, shape (..., m, d)
        Two samples; the sizes of the axes of the examples may differ.
    axes : int or sequence of int
        Axes of the examples, as in :func:`activation_moments`.

    Returns
    -------
    Moments
        Differences of the mean, the standard deviation, the skewness and the kurtosis.

    Raises
    ------
    TypeError, ValueError
        As :func:`symmetric_kl`.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.measure import moment_difference
    >>> a = np.array([[-1.0], [1.0]])
    >>> difference = moment_difference(a, 3 * a + 5)
    >>> difference.mean, difference.std
    (array([5.]), array([2.]))
    """
    p, q = _moments(a, b, axes)
    return Moments(*(after - before for before, after in zip(p, q, strict=True)))


def _moments(a: Array, b: Array, axes: int | Sequence[int]) -> tuple[Moments, Moments]:
    first, second = (checked_activations(n, v, axes) for n, v in (("a", a), ("b", b)))
    p, q = moments_of(*first), moments_of(*second)
    if p.mean.shape != q.mean.shape:
        raise ValueError(
            f"b: expected the shape {np.shape(a)} of a, but for the axes of the examples, got "
            f"{np.shape(b)}"
        )
    return p, q


def _last(x: Array, axes: tuple[int, ...]) -> Array:
    """Join the axes of the examples into a last one."""
    moved = np.moveaxis(x, axes, range(-len(axes), 0))
    return moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)
