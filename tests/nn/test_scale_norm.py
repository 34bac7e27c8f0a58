"""Scale norm against NumPy and RMS norm."""

import numpy as np
import pytest
import torch

from bnlib import functional as bn
from bnlib import nn as bnn


@pytest.mark.parametrize("shape", [4, (3, 4)])
def test_formula_and_gradient(shape):
    module = bnn.ScaleNorm(shape, dtype=torch.float64)
    d = int(np.prod(shape))
    assert module.weight.item() == np.sqrt(d)
    torch.nn.init.constant_(module.weight, 2.5)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(2, 3, 4, dtype=torch.float64)
    y = module(x)
    y.backward(dy)
    v, upstream = (t.detach().numpy().reshape(-1, d) for t in (x, dy))
    length = np.sqrt((v**2).sum(1, keepdims=True))
    direction = v / length
    np.testing.assert_allclose(y.detach().reshape(-1, d), 2.5 * direction)
    along = (upstream * direction).sum(1, keepdims=True)
    dx = 2.5 / length * (upstream - along * direction)
    np.testing.assert_allclose(x.grad.reshape(-1, d), dx, atol=1e-12)
    np.testing.assert_allclose(module.weight.grad, along.sum())


def test_is_rms_norm_with_one_weight():
    x = torch.randn(5, 7, dtype=torch.float64)
    expected = bn.rms_norm_forward(x.numpy(), eps=0.0)[0]
    np.testing.assert_allclose(bnn.ScaleNorm(7, dtype=torch.float64)(x).detach(), expected)


def test_zeros_stay_zeros_with_a_finite_gradient():
    x = torch.zeros(2, 3, requires_grad=True)
    module = bnn.ScaleNorm(3, eps=0.1)
    y = module(x)
    assert (y == 0).all()
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 3), float(np.sqrt(3) / 0.1)))


def test_float16_does_not_overflow():
    y = bnn.ScaleNorm(3)(torch.full((1, 3), 60_000.0, dtype=torch.float16))
    torch.testing.assert_close(y, torch.ones(1, 3, dtype=torch.float16))


@pytest.mark.parametrize("shape", [(2, 3), (4, 2), ()])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"input: expected last axes of lengths \(4,\), got shape"):
        bnn.ScaleNorm(4)(torch.ones(shape))
