"""The choice of a learning rate; a run that diverged is worse than any other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cost(loss: ArrayLike) -> NDArray[np.float64]:
    """Return the losses with infinity in place of those that are not finite: the run diverged.

    Parameters
    ----------
    loss : array_like, (...)

    Returns
    -------
    ndarray, (...)
    """
    loss = np.asarray(loss, np.float64)
    return np.where(np.isfinite(loss), loss, np.inf)


def best(loss: ArrayLike, axis: int = 0) -> NDArray[np.int64]:
    """Find the smallest loss along the axis of the learning rates.

    Parameters
    ----------
    loss : array_like, (..., r, ...)
        What is to be small; the negative of what is to be large, as of an accuracy.
    axis : int

    Returns
    -------
    ndarray of int, (...)
        Index of the rate, the first of several that are equal. A loss that is not finite is chosen
        only if all are such.

    Examples
    --------
    >>> int(best([np.nan, 0.3, 0.2, -np.inf]))
    2
    """
    return cost(loss).argmin(axis=axis)


def best_for_others(cost: NDArray[np.floating]) -> NDArray[np.int64]:
    """Choose each seed's rate, (..., k), by the mean cost of the other seeds.

    Parameters
    ----------
    cost : ndarray, (..., r, k)

    Returns
    -------
    ndarray of int, (..., k)
        Index of the rate of the smallest cost, the first of several that are equal.
    """
    return best(cost.sum(axis=-1, keepdims=True) - cost, axis=-2)


def at_rate(values: NDArray, rate: NDArray[np.int64]) -> NDArray:
    """Take (r, k) at a rate for each seed, (k,)."""
    return np.take_along_axis(values, rate[None], axis=0)[0]
