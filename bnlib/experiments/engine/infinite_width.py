r"""What theory predicts for the gradients of wide networks with batch norm at initialization.

In the limit of infinite width, with independent weights in the forward and in the backward pass.
Derived in :doc:`/book/depth_and_signal_propagation`; :mod:`bnlib.experiments.gradient_growth`
measures the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def relu_kernel(correlation: ArrayLike) -> NDArray[np.float64]:
    r"""Compute E[ReLU(a) ReLU(b)] of standard normal a and b with the given correlation c.

    .. math:: J(c) = \frac{\sqrt{1 - c^2} + c\, (\pi - \arccos c)}{2 \pi}

    Parameters
    ----------
    correlation : array_like, (...)

    Returns
    -------
    ndarray, (...)

    Notes
    -----
    Half of the arc-cosine kernel of degree 1 :cite:p:`cho2009kernel`.

    Examples
    --------
    >>> from bnlib.experiments.engine.infinite_width import relu_kernel
    >>> relu_kernel(1.0)
    np.float64(0.5)
    """
    c = np.asarray(correlation, np.float64)
    return (np.sqrt(1 - np.square(c)) + c * (np.pi - np.arccos(c))) / (2 * np.pi)


def predict_growth(activation: str, m: int) -> float:
    r"""Compute the growth a layer of a wide plain network with batch norm, for a mini-batch of m.

    Parameters
    ----------
    activation : {"linear", "relu"}
    m : int
        At least 4; for fewer examples the expected value is infinite.

    Returns
    -------
    float
        Factor of the mean square of the gradient: (m - 2)/(m - 3), or a number that tends to
        :math:`\pi/(\pi - 1)`. :cite:t:`yang2019mean` derive the first and this limit.

    Raises
    ------
    ValueError
        If m is too small, or there is no theory for the activation function.

    Examples
    --------
    >>> from bnlib.experiments.engine.infinite_width import predict_growth
    >>> predict_growth("linear", 5)
    1.5
    >>> round(predict_growth("relu", 10**6), 4)
    1.4669
    """
    if m < 4:
        raise ValueError(f"m: expected at least 4, got {m}")
    if activation == "linear":
        return (m - 2) / (m - 3)
    if activation != "relu":
        raise ValueError(f"activation: expected linear or relu, got {activation!r}")
    c = -1 / (m - 1)
    kernel = float(relu_kernel(c))
    both_positive = 1 / 4 + np.arcsin(c) / (2 * np.pi)
    positive = m / 2 + m * (m - 1) * both_positive  # E[N^2], N positive examples
    trace = m / 2 - 3 / 2 + positive / m**2 + (1 / 2 + (m - 1) * kernel) / m
    return float(m * trace / ((m - 1) * (m - 3) * (1 / 2 - kernel)))


def predict_residual_growth(m: int, depth: int) -> NDArray[np.float64]:
    r"""Compute the growth block by block in a wide residual network with batch norm and ReLU.

    Parameters
    ----------
    m : int
        Size of the mini-batch, at least 4.
    depth : int
        Number of blocks.

    Returns
    -------
    ndarray, (depth,)
        Factor of the mean square of the gradient in block l = 1, ..., depth. Their product grows
        like the power ``predict_growth("relu", m)`` of the depth.
    """
    a_block = 1 - 2 * float(relu_kernel(-1 / (m - 1)))  # variance over the mini-batch
    variance = 1 + a_block * np.arange(depth)  # before block l
    return 1 + a_block * predict_growth("relu", m) / variance
