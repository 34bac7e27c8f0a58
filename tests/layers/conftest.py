"""Shared by the tests of the layers: one of each layer, and torch autograd as the oracle."""

import numpy as np
import pytest
import torch
from random_inputs import SEED

from bnlib import layers as L  # noqa: N812

# name -> (layer from (rng, seeds, dtype), shape of one seed's input)
LAYERS = {
    "linear": (lambda rng, k, t: L.Linear(4, 3, rng=rng, dtype=t), (8, 4)),
    "linear-no-bias": (lambda rng, k, t: L.Linear(4, 3, rng=rng, bias=False, dtype=t), (3, 4)),
    "linear-sequence": (lambda rng, k, t: L.Linear(4, 3, rng=rng, dtype=t), (3, 5, 4)),
    "conv": (
        lambda rng, k, t: L.Conv2d(
            4, 6, (3, 2), rng=rng, stride=(1, 2), padding=(1, 0), groups=2, dtype=t
        ),
        (3, 4, 5, 6),
    ),
    "relu": (lambda rng, k, t: L.ReLU(), (8, 4)),
    "sigmoid": (lambda rng, k, t: L.Sigmoid(), (8, 4)),
    "tanh": (lambda rng, k, t: L.Tanh(), (8, 4)),
    "flatten": (lambda rng, k, t: L.Flatten(), (3, 2, 4, 5)),
    "dropout": (lambda rng, k, t: L.Dropout(0.4, rng=rng), (8, 4)),
    "max-pool": (lambda rng, k, t: L.MaxPool2d(3, 2), (2, 3, 7, 6)),
    "average-pool": (lambda rng, k, t: L.AvgPool2d((2, 3), 1), (2, 3, 4, 5)),
    "batch-norm": (lambda rng, k, t: L.BatchNorm(4, seeds=k, dtype=t), (8, 4)),
    "batch-norm-images": (lambda rng, k, t: L.BatchNorm(3, seeds=k, dtype=t), (2, 3, 4, 4)),
    "batch-norm-bare": (lambda rng, k, t: L.BatchNorm(4, affine=False, seeds=k, dtype=t), (3, 4)),
    "ghost-batch-norm": (lambda rng, k, t: L.GhostBatchNorm(4, 4, seeds=k, dtype=t), (8, 4)),
    "ghost-batch-norm-images": (
        lambda rng, k, t: L.GhostBatchNorm(3, 2, affine=False, seeds=k, dtype=t),
        (4, 3, 2, 3),
    ),
    "mean-only-batch-norm": (lambda rng, k, t: L.MeanOnlyBatchNorm(4, seeds=k, dtype=t), (8, 4)),
    "scale-only-batch-norm": (lambda rng, k, t: L.ScaleOnlyBatchNorm(4, seeds=k, dtype=t), (8, 4)),
    "scale-only-batch-norm-bare": (
        lambda rng, k, t: L.ScaleOnlyBatchNorm(3, affine=False, seeds=k, dtype=t),
        (2, 3, 4, 4),
    ),
    "dynamic-tanh": (lambda rng, k, t: L.DynamicTanh(4, seeds=k, dtype=t), (3, 5, 4)),
    "layer-norm": (lambda rng, k, t: L.LayerNorm(4, seeds=k, dtype=t), (3, 4)),
    "layer-norm-sequence": (lambda rng, k, t: L.LayerNorm((5, 4), seeds=k, dtype=t), (3, 5, 4)),
    "group-norm": (lambda rng, k, t: L.GroupNorm(2, 4, seeds=k, dtype=t), (2, 4, 3, 3)),
    "group-norm-bare": (
        lambda rng, k, t: L.GroupNorm(2, 4, affine=False, seeds=k, dtype=t),
        (2, 4, 3, 3),
    ),
    "instance-norm": (lambda rng, k, t: L.InstanceNorm(4, seeds=k, dtype=t), (2, 4, 3, 3)),
    "rms-norm": (lambda rng, k, t: L.RMSNorm(4, seeds=k, dtype=t), (3, 4)),
    "residual": (lambda rng, k, t: L.Residual(L.Linear(4, 4, rng=rng, dtype=t)), (3, 4)),
    "sequential": (
        lambda rng, k, t: L.Sequential(L.Linear(4, 3, rng=rng, dtype=t), L.Tanh()),
        (3, 4),
    ),
}


def generators(k):
    return [np.random.default_rng([7 + SEED, i]) for i in range(k)]


def randomize(layer, seed):
    """Give all parameters (so gamma != 1, beta != 0) random values of an ordinary size."""
    for i, p in enumerate(layer.parameters.values()):
        p[...] = np.random.default_rng([seed + SEED, i]).normal(0.3, 1, p.shape)


@pytest.fixture(params=LAYERS)
def make(request):
    """Make one of each layer, with random parameters: (dtype, seeds) -> layer, shape of x."""
    build, shape = LAYERS[request.param]

    def make(dtype=np.float64, seeds=None):
        rng = generators(1)[0] if seeds is None else generators(seeds)
        layer = build(rng, seeds, dtype)
        randomize(layer, 11)
        return layer, shape if seeds is None else (seeds, *shape)

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(20150211 + SEED)


@pytest.fixture
def agrees(rng):
    """Compare forward and backward of a layer with torch autograd: (layer, reference, x)."""

    def agrees(layer, reference, x, **tolerance):
        tolerance = {"rtol": 1e-10, "atol": 1e-12, **tolerance}
        leaves = {
            name: torch.tensor(array, requires_grad=True)
            for name, array in {"x": x, **layer.parameters}.items()
        }
        y = layer(x)
        expected = reference(**leaves)
        np.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
        dy = rng.standard_normal(y.shape)
        dx = layer.backward(dy)
        expected.backward(torch.tensor(dy))
        assert layer.gradients.keys() == layer.parameters.keys()
        for name, gradient in {"x": dx, **layer.gradients}.items():
            np.testing.assert_allclose(
                gradient, leaves[name].grad.numpy(), err_msg=name, **tolerance
            )

    return agrees
