r"""Calibration: whether a network is right as often as it says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnlib._validation import float_array
from bnlib.layers.base import Array


def expected_calibration_error(
    logits: Array, labels: NDArray[np.integer], *, bins: int = 10
) -> NDArray[np.float64]:
    r"""Compute the expected calibration error of :cite:t:`guo2017calibration`.

    .. math:: \mathrm{ECE} = \sum_{b=1}^{B} \frac{n_b}{n}\,
        \lvert \mathrm{accuracy}_b - \mathrm{confidence}_b \rvert

    Bin b holds the n_b examples with a confidence (largest softmax probability) in
    [(b - 1)/B, b/B), the last one also those with confidence 1; accuracy and confidence are means
    over it.

    Parameters
    ----------
    logits : array, shape (..., n, c)
        Scores of c classes for n examples, such as those of each seed.
    labels : array of int, shape (n,)
        True classes.
    bins : int
        B, at least 1.

    Returns
    -------
    array, shape (...)
        Between 0 and 1.

    Raises
    ------
    TypeError
        `logits` is not floating-point, or `labels` not integer.
    ValueError
        The shapes do not fit, or `bins` is not positive.

    Notes
    -----
    Over few examples it is biased upwards, as a mean of absolute values: a perfectly calibrated
    network does not have 0.

    Examples
    --------
    Two examples, both with confidence 0.75, one of them right:

    >>> import numpy as np
    >>> from bnlib.measure import expected_calibration_error
    >>> logits = np.log(np.array([[3.0, 1.0], [3.0, 1.0]]))
    >>> float(expected_calibration_error(logits, np.array([0, 1])).round(6))
    0.25
    """
    logits, labels = float_array("logits", logits), np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    if logits.ndim < 2 or logits.size == 0 or labels.shape != logits.shape[-2:-1]:
        raise ValueError(
            f"logits, labels: expected shapes (..., n, c) and (n,), got {logits.shape} and "
            f"{labels.shape}"
        )
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, got {bins}")
    z = logits.astype(np.float64, copy=False)
    confidence = 1 / np.exp(z - z.max(axis=-1, keepdims=True)).sum(axis=-1)  # (..., n)
    surplus = (z.argmax(axis=-1) == labels) - confidence
    replicas, n = int(np.prod(z.shape[:-2])), len(labels)
    bin_of = np.minimum((confidence * bins).astype(np.intp), bins - 1).reshape(replicas, n)
    cell = bin_of + bins * np.arange(replicas)[:, None]
    sums = np.bincount(cell.ravel(), weights=surplus.ravel(), minlength=bins * replicas)
    return np.abs(sums.reshape(*z.shape[:-2], bins)).sum(axis=-1) / n
