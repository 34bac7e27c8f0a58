"""Shared by the instruments that look at a network."""

import pickle
from contextlib import contextmanager

import pytest


@pytest.fixture(params=[None, 2], ids=["one", "two-seeds"])
def seeds(request):
    return request.param


@pytest.fixture
def unchanged():
    """Assert that a block leaves objects as they were, to the bit, with all that they refer to."""

    @contextmanager
    def unchanged(*objects):
        before = pickle.dumps(objects)
        yield
        assert pickle.dumps(objects) == before

    return unchanged
