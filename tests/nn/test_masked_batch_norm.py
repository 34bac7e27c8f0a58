"""Masked batch norm against NumPy on the positions that count, Keras, and batch norm."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from bnlib import functional as bn
from bnlib import nn as bnn

LENGTHS = torch.tensor([5, 2, 3, 1])
MASK = torch.arange(5) < LENGTHS[:, None]  # (n, l)


def layer(**options):
    module = bnn.MaskedBatchNorm1d(3, dtype=torch.float64, **options)
    with torch.no_grad():
        module.weight.normal_()
        module.bias.normal_()
    return module


def sequences():
    return 1 + 2 * torch.randn(4, 3, 5, dtype=torch.float64)


def test_positions_that_count_are_normalized_as_if_packed():
    module, x = layer(momentum=0.3), sequences().requires_grad_()
    weight, bias = (p.detach().numpy() for p in module.parameters())
    packed = x.detach().movedim(1, -1)[MASK].numpy()  # (m, c)
    expected, cache = bn.batch_norm_forward(packed, weight, bias)
    y = module(x, MASK)
    np.testing.assert_allclose(y.detach().movedim(1, -1)[MASK], expected)
    running = bn.RunningStatistics.initial((3,))
    running.update(cache.mean, cache.var, cache.count, momentum=0.3)
    np.testing.assert_allclose(module.running_mean, running.mean)
    np.testing.assert_allclose(module.running_var, running.var)
    dy = torch.randn(4, 3, 5, dtype=torch.float64) * MASK[:, None]
    dx = torch.autograd.grad(y, x, dy)[0].movedim(1, -1)
    upstream = dy.movedim(1, -1)[MASK].numpy()
    np.testing.assert_allclose(dx[MASK], bn.batch_norm_backward(upstream, cache)[0], atol=1e-12)
    assert (dx[~MASK] == 0).all()


def test_padding_is_normalized_by_the_same_statistics():
    module, x = layer(), sequences()
    packed = x.movedim(1, -1)[MASK].numpy()
    mean, var = packed.mean(0)[:, None], packed.var(0)[:, None]
    weight, bias = (p.detach().numpy()[:, None] for p in module.parameters())
    expected = (x.numpy() - mean) / np.sqrt(var + module.eps) * weight + bias
    np.testing.assert_allclose(module(x, MASK).detach(), expected)


def test_values_of_the_padding_do_not_matter():
    x = sequences()
    other = torch.where(MASK[:, None], x, 1e6)
    modules = [layer(), layer()]
    modules[1].load_state_dict(modules[0].state_dict())
    first, second = (m(v, MASK) for m, v in zip(modules, (x, other), strict=True))
    torch.testing.assert_close(first.movedim(1, -1)[MASK], second.movedim(1, -1)[MASK])
    torch.testing.assert_close(modules[0].state_dict(), modules[1].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False}])
@pytest.mark.parametrize("mask", [torch.ones(4, 5, dtype=torch.bool), None])
def test_full_mask_or_none_is_batch_norm(options, mask, kernel):
    module, peer = (
        c(3, dtype=torch.float64, **options) for c in (bnn.MaskedBatchNorm1d, nn.BatchNorm1d)
    )
    for training in (True, True, False):
        x = sequences()
        torch.testing.assert_close(module.train(training)(x, mask), peer.train(training)(x))
    torch.testing.assert_close(dict(module.state_dict()), dict(peer.state_dict()))
    peer.load_state_dict(module.state_dict(), strict=True)
    module.load_state_dict(peer.state_dict(), strict=True)


def test_mask_over_examples():
    module, x = layer(), torch.randn(5, 3, dtype=torch.float64)
    mask = torch.tensor([True, True, False, True, False])
    peer = nn.BatchNorm1d(3, dtype=torch.float64)
    peer.load_state_dict(module.state_dict())
    torch.testing.assert_close(module(x, mask)[mask], peer(x[mask]))
    torch.testing.assert_close(dict(module.state_dict()), dict(peer.state_dict()))


def test_eval_mode_ignores_the_mask():
    module, x = layer(), sequences()
    module(x, MASK)
    torch.testing.assert_close(module.eval()(x, MASK), module(x))


def test_constant_channel_far_from_zero_gives_the_bias():
    module = bnn.MaskedBatchNorm1d(1)
    y = module(torch.full((4, 1, 5), 10_000.1), MASK)
    assert (y == 0).all()


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (MASK.float(), TypeError, "mask: expected torch.bool"),
        (MASK.T, ValueError, r"mask: expected shape \(4, 5\), got \(5, 4\)"),
        (torch.zeros_like(MASK), ValueError, "mask: expected at least 2 positions"),
        (torch.eye(4, 5) * torch.tensor([[1], [0], [0], [0]]) > 0, ValueError, "got 1"),
    ],
)
def test_wrong_mask_changes_no_buffer(mask, error, message):
    module = layer()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(error, match=message):
        module(sequences(), mask)
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)


def test_keras(keras):
    module = layer(momentum=0.3)
    peer = keras.layers.BatchNormalization(momentum=0.7, epsilon=module.eps, dtype="float64")
    peer.build((None, 5, 3))
    for variable, parameter in zip((peer.gamma, peer.beta), module.parameters(), strict=True):
        variable.assign(parameter.detach().numpy())
    x = sequences()
    expected = peer(x.movedim(1, -1).contiguous(), training=True, mask=MASK)
    # Keras adds 1e-7 to the number of positions
    torch.testing.assert_close(module(x, MASK).movedim(1, -1), expected, rtol=1e-6, atol=1e-6)
    count = int(MASK.sum())  # Keras keeps the biased variance
    biased = 0.7 + (module.running_var - 0.7) * (count - 1) / count
    for ours, theirs in ((module.running_mean, peer.moving_mean), (biased, peer.moving_variance)):
        torch.testing.assert_close(ours, theirs.value.detach(), rtol=1e-6, atol=1e-6)


def test_traced_layer_counts_the_positions_of_other_masks():
    layer = bnn.MaskedBatchNorm1d(4)
    full = torch.ones(6, 5, dtype=torch.bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer about the checks of shapes
        traced = torch.jit.trace(copy.deepcopy(layer), (torch.randn(6, 4, 5), full))
    x, mask = torch.randn(9, 4, 7), torch.arange(63).view(9, 7) % 3 > 0
    torch.testing.assert_close(traced(x, mask), layer(x, mask))
