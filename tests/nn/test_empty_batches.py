"""Mini-batches without examples, and examples without positions."""

import pytest
import torch
from torch import nn
from torch_modules import pair

from bnlib import nn as bnn

AFFINE = {"affine": True, "track_running_stats": True}
EMPTY = [  # name, constructor arguments, options, shape of an input
    ("BatchNorm1d", (3,), {}, (0, 3)),
    ("BatchNorm1d", (3,), {}, (2, 3, 0)),
    ("BatchNorm2d", (3,), {}, (0, 3, 4, 4)),
    ("BatchNorm3d", (3,), {}, (1, 3, 2, 0, 2)),
    ("InstanceNorm1d", (3,), AFFINE, (0, 3, 4)),
    ("InstanceNorm1d", (3,), AFFINE, (2, 3, 0)),
    ("InstanceNorm2d", (3,), {}, (0, 3, 4, 4)),
    ("InstanceNorm3d", (3,), AFFINE, (0, 3, 2, 2, 2)),
    ("GroupNorm", (2, 4), {}, (0, 4)),
    ("GroupNorm", (2, 4), {}, (0, 4, 3)),
    ("GroupNorm", (2, 4), {}, (2, 4, 0)),
    ("LayerNorm", (4,), {}, (0, 4)),
    ("LayerNorm", ((3, 0),), {}, (2, 3, 0)),
    ("RMSNorm", (4,), {}, (2, 0, 4)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), EMPTY)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_nothing_comes_out_and_parameters_get_gradients_of_zeros(
    name, args, options, shape, training, dtype, kernel
):
    module = pair(name, *args, **options)[0].to(dtype).train(training)
    before = {k: v.clone() for k, v in module.named_buffers() if k.startswith("running")}
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    y = module(x)
    assert (y.shape, y.dtype) == (x.shape, dtype)
    y.backward(torch.ones_like(y))
    assert x.grad.shape == x.shape
    for parameter in module.parameters():
        assert not parameter.grad.any()  # NaN would be true
    for key, value in before.items():
        assert torch.equal(module.get_buffer(key), value)


def test_torch_fails_on_empty_mini_batches():
    """What the drop-ins mend, so that this file says why it differs."""
    with pytest.raises(IndexError):
        nn.InstanceNorm1d(3, affine=True)(torch.randn(0, 3, 4))
    layer = nn.GroupNorm(2, 4)
    layer(torch.randn(2, 4, 0)).sum().backward()
    assert layer.weight.grad.isnan().all()


def test_one_value_in_each_group(loops):
    """A single value is its own mean: the output is the bias, and the weight has no gradient."""
    layer, _ = pair("GroupNorm", 4, 4)
    y = layer(torch.randn(3, 4) * 1e4)
    y.backward(torch.randn(3, 4))
    assert torch.equal(y, layer.bias.expand_as(y))
    assert not layer.weight.grad.any()


def test_one_example_with_one_value_in_each_group_is_refused(kernel):
    layer, _ = pair("GroupNorm", 4, 4)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(torch.randn(1, 4))


def test_instance_norm_of_no_channels_does_as_torchs(kernel):
    x = torch.randn(2, 0, 3)
    assert bnn.InstanceNorm1d(0)(x).shape == nn.InstanceNorm1d(0)(x).shape == x.shape
