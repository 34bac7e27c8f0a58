"""Patches of two photographs: natural images that need no download."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnlib._extras import require
from bnlib._validation import check_integer
from bnlib.datasets.splits import Dataset, Rng, as_generator, finish

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_BAND = 80  # the photographs are cut into vertical bands of this width ...
_PERIOD, _TEST_BAND = 4, 2  # ... and of four successive bands the third is for testing
_MAX_GREY = 255


def photo_patches(
    n_train: int = 2000,
    n_test: int = 500,
    *,
    size: int = 16,
    rng: Rng,
    standardize: bool = False,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Cut random grey patches out of two photographs; the label says which photograph.

    Parameters
    ----------
    n_train, n_test : int
        Patches; each photograph gives half of each, to one patch.
    size : int
        Height and width `h = w` of a patch, 1 to 80.
    rng : numpy.random.Generator or int
        Source of the positions and the order; an int is a seed.
    standardize : bool
        False: grey values in [0, 1]. True: then shifted and scaled to mean 0 and variance 1, with
        one mean and one variance of the training set over all pixels.
    dtype : {float64, float32}
        Type of the inputs.

    Returns
    -------
    Dataset
        Inputs of shape (n, 1, h, w); label 0 is the temple (``china.jpg``), 1 the flower
        (``flower.jpg``).

    Raises
    ------
    TypeError, ValueError
        If a size or `dtype` is not possible.

    Notes
    -----
    Source: the photographs (427 x 640) that scikit-learn ships, by the Flickr users
    *danielbuechele* (china) and *vultilion* (flower), both CC BY 2.0.

    The test patches come from vertical bands of 80 pixels that no training patch touches, so a
    test patch shares no pixel with the training set. Patches of one part do overlap.

    Examples
    --------
    >>> from bnlib.datasets import photo_patches
    >>> photo_patches(size=12, rng=0).x_train.shape
    (2000, 1, 12, 12)
    """
    check_integer("n_train", n_train, at_least=2)
    check_integer("n_test", n_test, at_least=2)
    check_integer("size", size, at_least=1, at_most=_BAND)
    rng = as_generator(rng)
    photographs = _read_photographs()
    train = _draw_patches(photographs, n_train, size, rng, test=False)
    test = _draw_patches(photographs, n_test, size, rng, test=True)
    return finish(Dataset(*train, *test), standardize=standardize, dtype=dtype)


@lru_cache(maxsize=1)
def _read_photographs() -> NDArray:
    """Return the photographs as grey values in [0, 1] of shape (2, 427, 640)."""
    require("sklearn", extra="book")
    require("PIL", extra="book")  # scikit-learn reads the files with it
    from sklearn.datasets import load_sample_image

    photographs = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    return np.stack(photographs) @ _LUMA / _MAX_GREY


def _draw_patches(
    photographs: NDArray, n: int, size: int, rng: np.random.Generator, *, test: bool
) -> tuple[NDArray, NDArray]:
    _, height, width = photographs.shape
    labels = rng.permutation(np.arange(n) % 2)
    tops = rng.integers(height - size + 1, size=n)
    lefts = rng.choice(_allowed_lefts(width, size, test=test), size=n)
    rows = tops[:, None, None] + np.arange(size)[:, None]
    columns = lefts[:, None, None] + np.arange(size)
    return photographs[labels[:, None, None], rows, columns][:, None], labels


def _allowed_lefts(width: int, size: int, *, test: bool) -> NDArray:
    """Return the left columns from which a patch stays within the bands of its part."""
    is_test = (np.arange(width) // _BAND) % _PERIOD == _TEST_BAND
    windows = np.lib.stride_tricks.sliding_window_view(is_test == test, size)
    return np.flatnonzero(windows.all(axis=1))
