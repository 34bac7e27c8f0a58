"""Losses, each with the gradient of its mean over the mini-batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnlib.layers.base import Array


def softmax_cross_entropy(logits: Array, labels: NDArray[np.integer]) -> tuple[Array, Array]:
    """Compute the mean cross-entropy of softmax probabilities, and its gradient.

    Parameters
    ----------
    logits : array, shape (m, c) or (k, m, c)
        Scores of the c classes.
    labels : array of int, shape (m,) or (k, m)
        True classes, 0 to c - 1; (m,) is shared by all seeds.

    Returns
    -------
    loss : array, shape () or (k,)
        Mean over the mini-batch, in nats, of each seed.
    dlogits : array, shape of logits
        Gradient of each seed's own loss: (softmax - one_hot) / m.

    Raises
    ------
    TypeError
        If ``logits`` is not floating-point or ``labels`` not integer.
    ValueError
        If the shapes do not fit, the mini-batch is empty, or a label is not a class.

    Notes
    -----
    The maximum of each row is subtracted first, so no exponential overflows; the loss comes from
    the logarithm of the sum of exponentials, so it is finite also where a probability is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import softmax_cross_entropy
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((2, 4)), np.array([0, 3]))
    >>> float(loss) == float(np.log(4))
    True
    >>> dlogits[0]
    array([-0.375,  0.125,  0.125,  0.125])
    """
    labels = np.asarray(labels)
    _check("logits", logits, "(..., m, c)")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels: expected integers, got dtype {labels.dtype}")
    m, c = logits.shape[-2:]
    if labels.shape not in ((m,), logits.shape[:-1]):
        raise ValueError(
            f"labels: expected shape {(m,)} or {logits.shape[:-1]} to fit logits of shape "
            f"{logits.shape}, got {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= c:
        raise ValueError(
            f"labels: expected numbers of 0 to {c - 1}, "
            f"got {int(labels.min())} to {int(labels.max())}"
        )
    z = logits.reshape(-1, c).T.copy()  # (c, k m): a maximum along a short row is slow
    z -= z.max(axis=0)
    truth = np.broadcast_to(labels, logits.shape[:-1]).ravel(), np.arange(z.shape[1])
    p = np.exp(z)
    total = p.sum(axis=0)
    loss = (np.log(total) - z[truth]).reshape(logits.shape[:-1]).mean(axis=-1)
    p /= total
    p[truth] -= 1
    p /= m
    return loss, np.ascontiguousarray(p.T).reshape(logits.shape)


def mean_squared_error(prediction: Array, target: Array) -> tuple[Array, Array]:
    """Compute the mean squared error, and its gradient.

    Parameters
    ----------
    prediction : array, shape (m, d) or (k, m, d)
        Output of a network.
    target : array, shape (m, d) or shape of prediction
        What it should be; (m, d) is shared by all seeds.

    Returns
    -------
    loss : array, shape () or (k,)
        Mean over all m d entries, of each seed.
    dprediction : array, shape of prediction
        Gradient of each seed's own loss: 2 (prediction - target) / (m d).

    Raises
    ------
    TypeError
        If ``prediction`` is not floating-point.
    ValueError
        If the shapes do not fit, or the mini-batch is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import mean_squared_error
    >>> mean_squared_error(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]]))
    (np.float64(2.5), array([[1., 2.]]))
    """
    _check("prediction", prediction, "(..., m, d)")
    target = np.asarray(target)
    if target.shape not in (prediction.shape[-2:], prediction.shape):
        raise ValueError(
            f"target: expected shape {prediction.shape[-2:]} or {prediction.shape}, "
            f"got {target.shape}"
        )
    difference = prediction - target.astype(prediction.dtype, copy=False)
    loss = np.square(difference).mean(axis=(-2, -1))
    m, d = prediction.shape[-2:]
    difference *= 2 / (m * d)
    return loss, difference


def _check(name: str, array: Array, expected: str) -> None:
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name}: expected a floating-point array, got {array!r}")
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"{name}: expected shape {expected} and at least one example, got {array.shape}"
        )
