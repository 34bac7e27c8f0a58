"""Ghost batch norm against NumPy on each ghost batch, and against batch norm."""

import numpy as np
import pytest
import torch
from torch import nn

from bnlib import functional as bn
from bnlib import nn as bnn

SIZES = {  # (n, ghost_size): sizes of the ghost batches
    (8, 4): [4, 4],
    (9, 4): [5, 4],
    (11, 4): [6, 5],
    (7, 4): [7],
    (3, 4): [3],
    (14, 4): [5, 5, 4],
    (5, 2): [3, 2],
}


@pytest.mark.parametrize(("n", "ghost_size"), SIZES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3)])
def test_each_ghost_batch_is_normalized_by_itself(n, ghost_size, shape, kernel):
    name = f"GhostBatchNorm{max(len(shape), 1)}d"
    module = getattr(bnn, name)(2, momentum=0.3, dtype=torch.float64, ghost_size=ghost_size)
    with torch.no_grad():
        module.weight.normal_()
        module.bias.normal_()
    weight, bias = (p.detach().numpy() for p in module.parameters())
    running = bn.RunningStatistics.initial((2,))
    x = 2 + 3 * torch.randn(n, 2, *shape, dtype=torch.float64)
    dy = torch.randn_like(x)
    edges = np.cumsum(SIZES[n, ghost_size])[:-1]
    expected, gradients = [], []
    for part, upstream in zip(np.split(x.numpy(), edges), np.split(dy.numpy(), edges), strict=True):
        y, cache = bn.batch_norm_forward(part, weight, bias)
        running.update(cache.mean, cache.var, cache.count, momentum=0.3)
        expected.append(y)
        gradients.append(bn.batch_norm_backward(upstream, cache))
    x.requires_grad_()
    y = module(x)
    y.backward(dy)
    np.testing.assert_allclose(y.detach(), np.concatenate(expected), rtol=1e-10, atol=1e-10)
    dx, dweight, dbias = zip(*gradients, strict=True)
    np.testing.assert_allclose(x.grad, np.concatenate(dx), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(module.weight.grad, sum(dweight))
    np.testing.assert_allclose(module.bias.grad, sum(dbias))
    np.testing.assert_allclose(module.running_mean, running.mean)
    np.testing.assert_allclose(module.running_var, running.var)
    assert module.num_batches_tracked == len(SIZES[n, ghost_size])


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"track_running_stats": False}])
def test_one_ghost_batch_is_batch_norm(options, kernel):
    module = bnn.GhostBatchNorm2d(3, ghost_size=100, **options)
    peer = nn.BatchNorm2d(3, **options)
    for training in (True, True, False):
        x = torch.randn(6, 3, 4, 4)
        torch.testing.assert_close(module.train(training)(x), peer.train(training)(x))
    torch.testing.assert_close(dict(module.state_dict()), dict(peer.state_dict()))
    peer.load_state_dict(module.state_dict(), strict=True)
    module.load_state_dict(peer.state_dict(), strict=True)


def test_failure_in_a_later_ghost_batch_undoes_the_earlier_ones():
    module = bnn.GhostBatchNorm1d(1, ghost_size=2, refuse_nonfinite=True)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(ValueError, match="refuse_nonfinite"):
        module(torch.tensor([[1.0], [2.0], [3.0], [float("inf")]]))
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)


def test_ghost_batches_of_one_value_are_refused():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        bnn.GhostBatchNorm1d(2, ghost_size=1)(torch.randn(4, 2))


def test_output_keeps_channels_last():
    x = torch.randn(5, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    y = bnn.GhostBatchNorm2d(3, ghost_size=2)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
