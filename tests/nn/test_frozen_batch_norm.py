"""Frozen batch norm against NumPy's inference and torch's eval mode."""

import numpy as np
import pytest
import torch
from torch import nn

from bnlib import functional as bn
from bnlib import nn as bnn

SHAPES = {"1d": (4, 3), "2d": (4, 3, 2, 5), "3d": (2, 3, 2, 3, 2)}


def trained(axes, **options):
    """Torch's layer after two mini-batches, and a frozen one with its state."""
    peer = getattr(nn, f"BatchNorm{axes}")(3, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(1, 0.5)
    for _ in range(2):
        peer(1 + 2 * torch.randn(SHAPES[axes], dtype=torch.float64))
    module = getattr(bnn, f"FrozenBatchNorm{axes}")(3, dtype=torch.float64, **options)
    module.load_state_dict(peer.state_dict(), strict=True)
    return peer, module


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("options", [{}, {"eps": 0.1}, {"affine": False}, {"bias": False}])
def test_output_and_gradient_are_those_of_inference(axes, options):
    peer, module = trained(axes, **options)
    x = torch.randn(SHAPES[axes], dtype=torch.float64, requires_grad=True)
    dy = torch.randn_like(x)
    y = module.train()(x)
    parameters = [None if p is None else p.detach().numpy() for p in (peer.weight, peer.bias)]
    running = [peer.running_mean.numpy(), peer.running_var.numpy()]
    arrays = x.detach().numpy(), *running
    expected = bn.batch_norm_inference(*arrays, *parameters, eps=peer.eps)
    np.testing.assert_allclose(y.detach(), expected)
    dx = bn.batch_norm_inference_backward(dy.numpy(), *arrays, parameters[0], eps=peer.eps)[0]
    np.testing.assert_allclose(torch.autograd.grad(y, x, dy)[0], dx)
    torch.testing.assert_close(y, peer.eval()(x))


@pytest.mark.parametrize("axes", SHAPES)
def test_nothing_thaws_it(axes):
    peer, module = trained(axes)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    model = nn.Sequential(module).train().requires_grad_(True)
    assert module.training
    assert not list(model.parameters())
    model(torch.randn(SHAPES[axes], dtype=torch.float64, requires_grad=True)).sum().backward()
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)
    assert not isinstance(module, nn.modules.batchnorm._BatchNorm)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert converted[0] is module
    peer.load_state_dict(module.state_dict(), strict=True)


def test_one_example_is_enough():
    assert bnn.FrozenBatchNorm1d(3).train()(torch.ones(1, 3)).shape == (1, 3)


def test_state_saved_before_batches_were_counted():
    peer, module = trained("2d")
    old = {k: v for k, v in peer.state_dict().items() if k != "num_batches_tracked"}
    module.load_state_dict(old, strict=True)
