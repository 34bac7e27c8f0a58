"""Conditional batch norm against NumPy and against batch norm."""

import numpy as np
import pytest
import torch
from torch import nn

from bnlib import functional as bn
from bnlib import nn as bnn

SHAPES = {"1d": (6, 3), "2d": (6, 3, 2, 4)}
LABELS = torch.tensor([0, 3, 1, 1, 2, 3])


def layer(axes, **options):
    module = getattr(bnn, f"ConditionalBatchNorm{axes}")(
        3, dtype=torch.float64, num_conditions=4, **options
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("kind", ["class", "embedding"])
def test_scale_and_shift_come_from_the_condition(axes, kind, kernel):
    module = layer(axes)
    x = 1 + 2 * torch.randn(SHAPES[axes], dtype=torch.float64)
    z = torch.eye(4, dtype=torch.float64)[LABELS]
    condition = LABELS
    if kind == "embedding":
        condition = z = torch.randn(6, 4, dtype=torch.float64)
    values = {name: p.detach().numpy() for name, p in module.named_parameters()}
    shape = (6, 3, *[1] * (x.dim() - 2))
    gamma = (values["weight"] + z.numpy() @ values["weight_delta"]).reshape(shape)
    beta = (values["bias"] + z.numpy() @ values["bias_delta"]).reshape(shape)
    running = bn.RunningStatistics.initial((3,))
    for _ in range(2):
        x_hat, cache = bn.batch_norm_forward(x.numpy())
        running.update(cache.mean, cache.var, cache.count)
        y = module(x, condition)
        np.testing.assert_allclose(y.detach(), x_hat * gamma + beta)
    np.testing.assert_allclose(module.running_mean, running.mean)
    np.testing.assert_allclose(module.running_var, running.var)
    x_hat = bn.batch_norm_inference(x.numpy(), running.mean, running.var)
    np.testing.assert_allclose(module.eval()(x, condition).detach(), x_hat * gamma + beta)


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"momentum": None}])
def test_a_new_layer_is_batch_norm_for_every_condition(axes, options, kernel):
    peer = getattr(nn, f"BatchNorm{axes}")(3, **options)
    nn.init.normal_(peer.weight)
    module = getattr(bnn, f"ConditionalBatchNorm{axes}")(3, num_conditions=4, **options)
    loaded = module.load_state_dict(peer.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    assert all(key.endswith("_delta") for key in loaded.missing_keys)
    for training in (True, True, False):
        x = torch.randn(SHAPES[axes])
        y = module.train(training)(x, LABELS)
        torch.testing.assert_close(y, peer.train(training)(x))


def test_gradients_reach_only_the_classes_of_the_mini_batch():
    module = layer("1d")
    module(torch.randn(6, 3, dtype=torch.float64), LABELS.clamp(max=2)).pow(3).sum().backward()
    assert (module.weight_delta.grad[3] == 0).all()
    assert (module.weight_delta.grad[:3] != 0).all()


def test_autocast_does_not_round_the_mixture_of_an_embedding():
    module = layer("1d").float().eval()
    x, z = torch.randn(6, 3), torch.eye(4)[LABELS] / 3
    expected = module(x, z)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(x, z), expected, rtol=0, atol=0)


def test_reset_parameters():
    module = layer("1d")
    module.reset_parameters()
    assert (module.weight_delta == 0).all()
    assert (module.weight == 1).all()


@pytest.mark.parametrize(
    ("condition", "error", "message"),
    [
        (LABELS + 1, ValueError, "condition: expected classes from 0 to 3, got 1 to 4"),
        (LABELS - 1, ValueError, "got -1 to 2"),
        (LABELS[:5], ValueError, r"condition: expected shape \(6,\), got \(5,\)"),
        (torch.randn(6, 3), ValueError, r"condition: expected shape \(6, 4\), got \(6, 3\)"),
        (LABELS.bool(), TypeError, "condition: expected int64 or floating point"),
    ],
)
def test_wrong_condition_changes_no_buffer(condition, error, message):
    module = layer("1d")
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(error, match=message):
        module(torch.randn(6, 3, dtype=torch.float64), condition)
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)
