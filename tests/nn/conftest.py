"""Both kernels, and pairs of a drop-in and torch's own class."""

import warnings

import pytest

from bnlib.nn import _fused, _kernel_torch


@pytest.fixture(params=["torch", "numba"])
def kernel(request, monkeypatch):
    """Each kernel in turn, put in place of the fastest that is installed."""
    module = _kernel_torch
    if request.param == "numba":
        pytest.importorskip("numba")
        from bnlib.nn import _kernel_numba as module
    monkeypatch.setattr(_fused, "kernel", lambda: module)
    return module


@pytest.fixture
def keras(monkeypatch):
    """Keras on its torch backend, where it happens to be installed."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")
