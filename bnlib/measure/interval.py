"""A mean over seeds, and how well it is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
"""The coverage of every interval in the book."""


class Interval(NamedTuple):
    """A mean over seeds with the ends of its confidence interval, each of shape (t,) or ()."""

    mean: NDArray[np.floating]
    low: NDArray[np.floating]
    high: NDArray[np.floating]


def mean_interval(samples: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean over seeds and its t-interval.

    Parameters
    ----------
    samples : array_like, shape (k, ...)
        One row a seed; at least two seeds, all values finite.
    confidence : float
        Coverage of the interval if the samples are normal.

    Returns
    -------
    Interval
        `mean`, `low` and `high`, each of shape (...).

    Raises
    ------
    ValueError
        If there are fewer than two seeds, or a value is not finite.

    Notes
    -----
    mean -+ q s / sqrt(k), where s has the divisor k - 1 and q is the quantile of Student's t
    distribution with k - 1 degrees of freedom.

    Examples
    --------
    >>> from bnlib.plots import mean_interval
    >>> [round(float(end), 2) for end in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim == 0 or len(samples) < 2:
        raise ValueError(f"samples: expected at least 2 seeds on axis 0, got {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError(f"samples: expected finite values, got a non-finite one, {samples.shape}")
    k = len(samples)
    mean = samples.mean(axis=0)
    quantile = stats.t.ppf((1 + confidence) / 2, k - 1)
    half_width = quantile * samples.std(axis=0, ddof=1) / np.sqrt(k)
    return Interval(mean, mean - half_width, mean + half_width)
