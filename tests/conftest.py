"""Fixtures and settings that every test shares."""

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import settings

mpl.use("Agg")
# The same examples in every run, and no time limit: the speed of a machine is not a property.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
