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
def torch_state():
    """Give torch the same state whatever tests came before, and leave its modes as they were.

    `torch.compile` remembers for the process which functions it gave up on.
    """
    torch = sys.modules.get("torch")
    if torch:
        torch.manual_seed(SEED)
    yield
    if torch := sys.modules.get("torch"):
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()
        assert torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float32
