"""Two classes in the plane, to look at decision boundaries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnlib._extras import require
from bnlib._validation import check_integer
from bnlib.datasets.splits import Dataset, Rng, as_generator, finish

_TURNS = 1.5  # of a spiral arm
_MAX_SEED = 2**31


def two_moons(
    n_train: int = 400,
    n_test: int = 400,
    *,
    rng: Rng,
    noise: float = 0.2,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Draw two interleaved half circles of radius 1 (`sklearn.datasets.make_moons`).

    Parameters
    ----------
    n_train, n_test : int
        Examples; both classes have half of each, to one example.
    rng : numpy.random.Generator or int
        Source of the noise and the order; an int is a seed.
    noise : float
        Standard deviation of the Gaussian noise.
    dtype : {float64, float32}
        Type of the inputs.

    Returns
    -------
    Dataset
        Inputs of shape (n, 2), labels 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If a size, `noise` or `dtype` is not possible.

    Examples
    --------
    >>> from bnlib.datasets import two_moons
    >>> two_moons(rng=0).x_train.shape
    (400, 2)
    """
    require("sklearn", extra="book")
    from sklearn.datasets import make_moons

    def draw(n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        return make_moons(n, noise=noise, random_state=int(rng.integers(_MAX_SEED)))

    return _draw_both(draw, n_train, n_test, noise, rng, dtype)


def circles(
    n_train: int = 400,
    n_test: int = 400,
    *,
    rng: Rng,
    noise: float = 0.1,
    factor: float = 0.5,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Draw a circle of radius 1 around a smaller one (`sklearn.datasets.make_circles`).

    Parameters
    ----------
    n_train, n_test : int
        Examples; both classes have half of each, to one example.
    rng : numpy.random.Generator or int
        Source of the noise and the order; an int is a seed.
    noise : float
        Standard deviation of the Gaussian noise.
    factor : float
        Radius of the inner circle (class 1), in [0, 1).
    dtype : {float64, float32}
        Type of the inputs.

    Returns
    -------
    Dataset
        Inputs of shape (n, 2), labels 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If a size, `noise`, `factor` or `dtype` is not possible.

    Examples
    --------
    >>> from bnlib.datasets import circles
    >>> circles(rng=0).x_test.shape
    (400, 2)
    """
    require("sklearn", extra="book")
    from sklearn.datasets import make_circles

    if not 0 <= factor < 1:
        raise ValueError(f"factor: expected a number in [0, 1), got {factor}")

    def draw(n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        seed = int(rng.integers(_MAX_SEED))
        return make_circles(n, noise=noise, factor=factor, random_state=seed)

    return _draw_both(draw, n_train, n_test, noise, rng, dtype)


def spirals(
    n_train: int = 400,
    n_test: int = 400,
    *,
    rng: Rng,
    noise: float = 0.05,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Draw two spiral arms of 1.5 turns that grow from the centre to radius 1.

    Parameters
    ----------
    n_train, n_test : int
        Examples; both classes have half of each, to one example.
    rng : numpy.random.Generator or int
        Source of the positions, the noise and the order; an int is a seed.
    noise : float
        Standard deviation of the Gaussian noise.
    dtype : {float64, float32}
        Type of the inputs.

    Returns
    -------
    Dataset
        Inputs of shape (n, 2), labels 0 and 1; arm 1 is arm 0 turned by half a turn.

    Raises
    ------
    TypeError, ValueError
        If a size, `noise` or `dtype` is not possible.

    Examples
    --------
    >>> from bnlib.datasets import spirals
    >>> spirals(rng=0).x_train.shape
    (400, 2)
    """

    def draw(n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        y = rng.permutation(np.arange(n) % 2)
        radius = np.sqrt(rng.uniform(size=n))  # as many points per length, outside and inside
        angle = 2 * np.pi * _TURNS * radius + np.pi * y
        x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return x + noise * rng.standard_normal(x.shape), y

    return _draw_both(draw, n_train, n_test, noise, rng, dtype)


def _draw_both(
    draw: Callable[[int, np.random.Generator], tuple[NDArray, NDArray]],
    n_train: int,
    n_test: int,
    noise: float,
    rng: Rng,
    dtype: DTypeLike,
) -> Dataset:
    check_integer("n_train", n_train, at_least=2)
    check_integer("n_test", n_test, at_least=2)
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise: expected a finite number of at least 0, got {noise}")
    rng = as_generator(rng)
    data = Dataset(*draw(int(n_train), rng), *draw(int(n_test), rng))
    return finish(data, standardize=False, dtype=dtype)
