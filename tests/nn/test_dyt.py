"""Dynamic tanh against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from bnlib import nn as bnn


@pytest.mark.parametrize("shape", [4, (3, 4)])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"elementwise_affine": False}])
def test_formula_and_gradients(shape, options):
    module = bnn.DyT(shape, alpha_init=0.7, dtype=torch.float64, **options)
    assert module.alpha.item() == 0.7
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(2, 3, 4, dtype=torch.float64)
    y = module(x)
    y.backward(dy)
    values = {k: p.detach().numpy() for k, p in module.named_parameters()}
    gamma, beta = values.get("weight", 1.0), values.get("bias", 0.0)
    v, squashed = x.detach().numpy(), np.tanh(values["alpha"] * x.detach().numpy())
    np.testing.assert_allclose(y.detach(), gamma * squashed + beta)
    slope = dy.numpy() * gamma * (1 - squashed**2)
    np.testing.assert_allclose(x.grad, slope * values["alpha"])
    np.testing.assert_allclose(module.alpha.grad, (slope * v).sum())
    if "weight" in values:
        axes = tuple(range(3 - values["weight"].ndim))
        np.testing.assert_allclose(module.weight.grad, (dy.numpy() * squashed).sum(axes))


def test_state_of_layer_norm_loads_but_for_alpha():
    module, peer = bnn.DyT(4), nn.LayerNorm(4)
    loaded = module.load_state_dict(peer.state_dict(), strict=False)
    assert loaded.missing_keys == ["alpha"]
    assert not loaded.unexpected_keys


def test_small_inputs_pass_linearly():
    x = torch.randn(2, 4, dtype=torch.float64) * 1e-6
    torch.testing.assert_close(bnn.DyT(4, dtype=torch.float64)(x), 0.5 * x)


@pytest.mark.parametrize("shape", [(2, 3), (4, 2), ()])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"input: expected last axes of lengths \(4,\), got shape"):
        bnn.DyT(4)(torch.ones(shape))


def test_wrong_dtype():
    with pytest.raises(TypeError, match="input: expected floating point"):
        bnn.DyT(4)(torch.ones(2, 4, dtype=torch.int64))
