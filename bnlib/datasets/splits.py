"""The form of a data set, and what all data sets share: splitting, scaling, checking."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnlib._extras import require
from bnlib._validation import check_integer

Rng = np.random.Generator | int
"""A generator, or a seed for a new one."""


class Dataset(NamedTuple):
    """Examples and labels, split into a training and a test set.

    Attributes
    ----------
    x_train, x_test : ndarray of shape (n, ...)
        Inputs, one example on each entry of axis 0.
    y_train, y_test : ndarray of int64 and shape (n,)
        Class labels 0, 1, ...
    """

    x_train: NDArray[np.floating]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.floating]
    y_test: NDArray[np.int64]


def split_stratified(x: NDArray, y: NDArray, n_test: int, seed: int) -> Dataset:
    """Split at random so that every class has the same share in both parts, to one example.

    Parameters
    ----------
    x : ndarray of shape (n, ...)
        Inputs.
    y : ndarray of shape (n,)
        Labels.
    n_test : int
        Examples in the test set; each class needs one in either part.
    seed : int
        Fixes the split and the order of the examples.

    Returns
    -------
    Dataset
        Shuffled copies.

    Raises
    ------
    ValueError
        If a class would be absent from one of the parts, or `seed` is negative.
    """
    require("sklearn", extra="book")
    from sklearn.model_selection import train_test_split

    check_integer("seed", seed, at_least=0, at_most=2**32 - 1)
    n_classes = len(np.unique(y))
    check_integer("n_test", n_test, at_least=n_classes, at_most=len(y) - n_classes)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=n_test, random_state=seed, stratify=y
    )
    return Dataset(x_train, y_train, x_test, y_test)


def finish(data: Dataset, *, standardize: bool, dtype: DTypeLike) -> Dataset:
    """Standardize if asked to, with one mean and deviation of all training values, and convert.

    Parameters
    ----------
    data : Dataset
        Inputs in float64.
    standardize : bool
        Whether the training inputs get mean 0 and variance 1 over all examples and pixels. The
        test set is mapped with the numbers of the training set.
    dtype : {float64, float32}
        Type of the inputs.

    Returns
    -------
    Dataset
        Inputs in `dtype`, labels in int64.

    Raises
    ------
    ValueError
        If `dtype` is another one.
    """
    if np.dtype(dtype) not in (np.float64, np.float32):
        raise ValueError(f"dtype: expected float64 or float32, got {np.dtype(dtype)}")
    shift, scale = (data.x_train.mean(), data.x_train.std()) if standardize else (0.0, 1.0)
    return Dataset(
        ((data.x_train - shift) / scale).astype(dtype),
        data.y_train.astype(np.int64),
        ((data.x_test - shift) / scale).astype(dtype),
        data.y_test.astype(np.int64),
    )


def as_generator(rng: Rng) -> np.random.Generator:
    """Return the generator, or a new one from the seed.

    Raises
    ------
    TypeError
        If `rng` is neither; there is no unseeded generator here.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    check_integer("rng", rng, at_least=0)
    return np.random.default_rng(rng)
