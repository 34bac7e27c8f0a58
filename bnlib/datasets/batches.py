"""Mini-batches of an epoch, and light that changes from mini-batch to mini-batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnlib._validation import as_generators, check_integer


def minibatches(
    n: int,
    batch_size: int,
    rng: np.random.Generator | Sequence[np.random.Generator],
    *,
    drop_last: bool,
) -> list[NDArray[np.int64]]:
    """Return the indices of the mini-batches of one epoch, in random order.

    Parameters
    ----------
    n : int
        Number of training examples.
    batch_size : int
        Size `m` of a mini-batch, at most `n`.
    rng : numpy.random.Generator or sequence of k generators
        Source of the order; one generator a seed gives every seed its own order.
    drop_last : bool
        Whether to leave out a last, smaller mini-batch. There is no default: a last mini-batch of
        one example is an error in batch normalization, and one left out changes the epoch.

    Returns
    -------
    list of ndarray of shape (m,) or (k, m)
        Each example occurs at most once; without `drop_last` exactly once.

    Raises
    ------
    TypeError, ValueError
        If `n` or `batch_size` is not possible, or `rng` is no generator.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.datasets import minibatches
    >>> batches = minibatches(10, 4, np.random.default_rng(0), drop_last=False)
    >>> [len(batch) for batch in batches]
    [4, 4, 2]
    """
    check_integer("n", n, at_least=1)
    check_integer("batch_size", batch_size, at_least=1, at_most=n)
    if isinstance(rng, np.random.Generator):
        order = rng.permutation(n)
    else:
        order = np.stack([generator.permutation(n) for generator in as_generators(rng)[0]])
    end = n - n % batch_size if drop_last else n
    return [order[..., i : min(i + batch_size, end)] for i in range(0, end, batch_size)]


def vary_lighting(
    x: NDArray[np.floating],
    rng: np.random.Generator | Sequence[np.random.Generator],
    *,
    brightness: float = 0.5,
    contrast: float = 2.0,
) -> NDArray[np.floating]:
    """Change the brightness and the contrast of a mini-batch: one draw for the whole mini-batch.

    Parameters
    ----------
    x : ndarray of shape (n, c, h, w) or (k, n, c, h, w)
        A mini-batch of images (any shape will do); it is not modified.
    rng : numpy.random.Generator or sequence of k generators
        Source of the draw. With k generators `x` has a leading seed axis of length k, and each
        seed has its own draw.
    brightness : float
        Largest offset in absolute value, in units of `x`; 0 switches it off.
    contrast : float
        Largest contrast factor, at least 1; 1 switches it off.

    Returns
    -------
    ndarray
        a x + b in the shape and dtype of `x`: log(a) uniform in [-log(contrast), log(contrast)],
        b uniform in [-brightness, brightness].

    Raises
    ------
    TypeError
        If `x` is not of floating point, or `rng` is no generator.
    ValueError
        If the seed axis does not fit, or `brightness` or `contrast` is out of range.

    Notes
    -----
    Nothing is clipped, so [0, 1] is left: the map is affine and loses nothing, and normalization
    over the mini-batch undoes it (up to eps). One draw takes two numbers from each generator, also
    when switched off, so that runs with and without it stay in step.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.datasets import vary_lighting
    >>> x = np.array([0.0, 0.5, 1.0])
    >>> dim = vary_lighting(x, np.random.default_rng(0), brightness=0.0, contrast=2.0)
    >>> bool(dim[0] == 0.0 and 0.5 <= dim[2] <= 2.0)
    True
    """
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"x: expected floating point, got {x.dtype} of shape {x.shape}")
    if not 0 <= brightness < np.inf:
        raise ValueError(f"brightness: expected a finite number of at least 0, got {brightness}")
    if not 1 <= contrast < np.inf:
        raise ValueError(f"contrast: expected a finite factor of at least 1, got {contrast}")
    if isinstance(rng, np.random.Generator):
        factor, offset = _draw_lighting(rng, brightness, contrast)
    else:
        generators = as_generators(rng)[0]
        if x.ndim < 2 or len(x) != len(generators):
            raise ValueError(
                f"x: expected a leading seed axis of {len(generators)}, got shape {x.shape}"
            )
        draws = np.array([_draw_lighting(one, brightness, contrast) for one in generators])
        factor, offset = draws.T.reshape(2, -1, *[1] * (x.ndim - 1))
    return (factor * x + offset).astype(x.dtype, copy=False)


def _draw_lighting(
    rng: np.random.Generator, brightness: float, contrast: float
) -> tuple[float, float]:
    log_factor, offset = rng.uniform(-1, 1, size=2) * (np.log(contrast), brightness)
    return np.exp(log_factor), offset
