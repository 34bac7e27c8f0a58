"""Fixtures that every test shares."""

import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import settings
from random_inputs import SEED

mpl.use("Agg")
settings.register_profile("seeded", settings.get_profile("ci"), derandomize=False)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if SEED:  # else hypothesis tries the same examples every time
        config.option.hypothesis_profile, config.option.hypothesis_seed = "seeded", str(SEED)


@pytest.fixture
def rng():
    return np.random.default_rng(SEED)


@pytest.fixture(autouse=True)
def seed():
    """Give torch's own generator the same state whatever tests came before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)
