r"""Initial weights: zero mean and a standard deviation that keeps the scale of signals.

An initializer is a function ``(rng, shape, fan_in, fan_out) -> ndarray``; any function of this
form can be given to a layer as ``init``.
"""

from __future__ import annotations

import numpy as np

from bnlib.layers.base import Array, Initializer


def he(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    r"""Draw normal weights with standard deviation :math:`\sqrt{2 / n_{in}}`.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the numbers.
    shape : tuple of int
        Shape of the weights.
    fan_in, fan_out : int
        Number of inputs that one output sums, and of outputs that one input feeds.

    Returns
    -------
    array, shape as given
        Weights in float64.

    Notes
    -----
    :cite:t:`he2015delving`. A ReLU sets half of a symmetric signal to zero; the factor 2 makes up
    for it, so that the second moment of the activations is the same in each layer.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import he
    >>> w = he(np.random.default_rng(0), (50, 2000), 50, 2000)
    >>> bool(abs(w.std() - 0.2) < 0.002)
    True
    """
    return rng.standard_normal(shape) * np.sqrt(2 / fan_in)


def xavier(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    r"""Draw normal weights of standard deviation :math:`\sqrt{2 / (n_{in} + n_{out})}`.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the numbers.
    shape : tuple of int
        Shape of the weights.
    fan_in, fan_out : int
        Number of inputs that one output sums, and of outputs that one input feeds.

    Returns
    -------
    array, shape as given
        Weights in float64.

    Notes
    -----
    :cite:t:`glorot2010understanding`: a compromise between keeping the variance of the activations
    (1 / fan_in) and that of the gradients (1 / fan_out) where the activation function is close to
    the identity around 0.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import xavier
    >>> w = xavier(np.random.default_rng(0), (50, 150), 50, 150)
    >>> bool(abs(w.std() - 0.1) < 0.003)
    True
    """
    return rng.standard_normal(shape) * np.sqrt(2 / (fan_in + fan_out))


def orthogonal(
    rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> Array:
    r"""Draw an orthogonal matrix, all of them equally likely.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the numbers.
    shape : tuple of int
        (n, p), the shape of the weights.
    fan_in, fan_out : int
        Not used.

    Returns
    -------
    array, shape as given
        Weights W in float64, with :math:`W^\top W = I` if n >= p, else :math:`W W^\top = I`.

    Raises
    ------
    ValueError
        If the shape is not that of a matrix.

    Notes
    -----
    :cite:t:`saxe2014exact`. The columns of a matrix of normal numbers, made orthonormal in turn. A
    square W changes no length and no angle, forward or backward.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import orthogonal
    >>> w = orthogonal(np.random.default_rng(0), (5, 3), 5, 3)
    >>> np.allclose(w.T @ w, np.eye(3))
    True
    """
    if len(shape) != 2:
        raise ValueError(f"shape: expected that of a matrix, (n, p), got {shape}")
    n, p = max(shape), min(shape)
    q, r = np.linalg.qr(rng.standard_normal((n, p)))
    q *= np.sign(np.diagonal(r))  # else the signs would not be random
    return q if shape[0] == n else q.T


def scaled(std: float) -> Initializer:
    """Make an initializer that draws normal weights of a given standard deviation.

    Parameters
    ----------
    std : float
        Standard deviation, at least 0.

    Returns
    -------
    callable
        Initializer ``(rng, shape, fan_in, fan_out) -> ndarray``, which ignores the fans.

    Raises
    ------
    ValueError
        If ``std`` is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import scaled
    >>> bool(scaled(3.0)(np.random.default_rng(0), (10_000,), 1, 1).std().round() == 3)
    True
    """
    if not 0 <= std < np.inf:
        raise ValueError(f"std: expected a finite number >= 0, got {std!r}")

    def init(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
        return rng.standard_normal(shape) * std

    return init
