"""Both kernels, and pairs of a drop-in and torch's own class."""

import warnings

import pytest

from bnlib.nn._cpu import dispatch


@pytest.fixture(params=["torch", "numba"])
def kernel(request):
    """Torch's operations, and Numba's loops."""
    if request.param == "numba":
        pytest.importorskip("numba")
    with dispatch.use_kernel(request.param):
        yield request.param


@pytest.fixture
def loops():
    """Numba's loops, for what torch's operations do not promise."""
    pytest.importorskip("numba")
    with dispatch.use_kernel("numba"):
        yield


@pytest.fixture
def keras(monkeypatch):
    """Keras on its torch backend, where it happens to be installed."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")
