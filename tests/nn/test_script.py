"""What ``torch.jit`` makes of the layers: of drop-ins torch's operation, of others a sentence."""

import copy
import io
import re

import pytest
import torch
from family_modules import FAMILY, build
from torch import nn
from torch_modules import CASES, distance, pair, step

from bnlib import nn as bnn

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),  # checks of the shape
]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_scripted_drop_in_is_that_of_torch(name, train):
    args, options, shape = CASES[name]
    ours, peer = (m.train(train) for m in pair(name, *args, **options))
    scripted, expected = torch.jit.script(ours), torch.jit.script(peer)
    x, dy = torch.randn(shape), torch.randn(shape)
    got, right = step(scripted, x, dy), step(expected, x, dy)
    assert got.keys() == right.keys()
    assert all(torch.equal(got[key], value) for key, value in right.items() if value is not None)


def test_scripting_leaves_the_model_as_it_was_and_shares_its_tensors():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), bnn.BatchNorm2d(4), bnn.GroupNorm(2, 4))
    layers, attributes = list(net), [dict(vars(m)) for m in net]
    scripted = torch.jit.script(net)
    assert all(a is b for a, b in zip(net, layers, strict=True))
    assert [type(m) for m in net[1:]] == [bnn.BatchNorm2d, bnn.GroupNorm]
    assert [vars(m).keys() - {"__overloads__"} for m in net] == [a.keys() for a in attributes]
    tensors = net.state_dict(keep_vars=True)
    for name, tensor in scripted.state_dict(keep_vars=True).items():
        assert tensor.data_ptr() == tensors[name].data_ptr()
    scripted(torch.randn(2, 3, 4, 4))
    assert net[1].num_batches_tracked == 1


class WithOptions(bnn.BatchNorm2d):
    """A subclass without a forward of its own."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3)


def test_scripted_model_can_be_frozen_and_saved():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), WithOptions(4), nn.ReLU())
    x = torch.randn(2, 3, 4, 4)
    net(x)
    scripted = torch.jit.script(net.eval())
    assert distance(torch.jit.freeze(scripted)(x), net(x)) < 1e-5
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    assert distance(torch.jit.load(file)(x), net(x)) < 1e-5


@pytest.mark.parametrize("name", FAMILY)
def test_relative_says_why_it_cannot_be_scripted_and_what_can(name):
    layer, shape, others = build(name)
    net = (layer if others else nn.Sequential(layer)).eval()
    message = f"cannot compile {name}; use torch.jit.trace or torch.export.export, in eval mode"
    with pytest.raises(NotImplementedError, match=re.escape(message)):
        torch.jit.script(net)
    inputs = (torch.randn(shape), *others)
    traced = torch.jit.trace(net, inputs)
    exported = torch.export.export(net, inputs).module()
    x = torch.randn(shape)
    for model in (traced, torch.jit.freeze(traced), exported):
        assert distance(model(x, *others), copy.deepcopy(net)(x, *others)) < 1e-5


@pytest.mark.parametrize("made", [bnn.SyncBatchNorm, bnn.BatchNorm2d])
def test_synchronized_batch_norm_says_what_to_call_first(made):
    net = bnn.convert_sync_batchnorm(nn.Sequential(made(3)))
    with pytest.raises(NotImplementedError, match="call revert_sync_batchnorm on the model first"):
        torch.jit.script(net)
    x = torch.randn(2, 3, 4, 4)
    twin = copy.deepcopy(net)
    assert distance(torch.jit.script(bnn.revert_sync_batchnorm(net))(x), twin(x)) < 1e-5
