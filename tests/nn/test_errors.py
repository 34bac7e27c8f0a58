"""What torch refuses, the drop-ins refuse with the same exception, and no buffer changes."""

import copy

import pytest
import torch
from torch import nn
from torch_modules import pair

from bnlib import nn as bnn

CONSTRUCTION = {
    "groups": ("GroupNorm", (3, 10), {}),
    "negative features": ("BatchNorm2d", (-1,), {}),
    "features of the wrong type": ("BatchNorm1d", ("3",), {}),
    "integer dtype": ("BatchNorm1d", (3,), {"dtype": torch.int64}),
    "positional bias": ("BatchNorm1d", (3, 1e-5, 0.1, True, True, None, None, False), {}),
    "unknown option": ("LayerNorm", (3,), {"axes": 1}),
    "no shape": ("RMSNorm", (), {}),
    "bias of RMS norm": ("RMSNorm", (3,), {"bias": True}),
}
FLOAT64 = torch.float64
CALLS = {  # name: class, constructor arguments, options, what is done to the module, input
    "too few axes": ("BatchNorm2d", (3,), {}, None, torch.ones(4, 3)),
    "too many axes": ("BatchNorm1d", (3,), {}, None, torch.ones(4, 3, 2, 2)),
    "no channel axis": ("BatchNorm1d", (3,), {}, None, torch.ones(3)),
    "one axis too few": ("BatchNorm3d", (3,), {}, None, torch.ones(4, 3, 2, 2)),
    "one value per channel": ("BatchNorm1d", (3,), {}, None, torch.ones(1, 3)),
    "one pixel": ("BatchNorm2d", (3,), {}, None, torch.ones(1, 3, 1, 1)),
    "one value, not tracked": (
        "BatchNorm1d", (3,), {"track_running_stats": False}, "eval", torch.ones(1, 3),
    ),
    "channels": ("BatchNorm2d", (3,), {}, None, torch.ones(4, 5, 2, 2)),
    "channels, not affine": ("BatchNorm2d", (3,), {"affine": False}, None, torch.ones(4, 5, 2, 2)),
    "channels in eval mode": ("BatchNorm2d", (3,), {}, "eval", torch.ones(4, 5, 2, 2)),
    "integers": ("BatchNorm1d", (3,), {}, None, torch.ones(4, 3, dtype=torch.int64)),
    "complex": ("BatchNorm1d", (3,), {}, None, torch.ones(4, 3, dtype=torch.complex64)),
    "booleans": ("BatchNorm1d", (3,), {}, None, torch.ones(4, 3, dtype=torch.bool)),
    "float64 input": ("BatchNorm1d", (3,), {}, None, torch.ones(4, 3, dtype=FLOAT64)),
    "float64 module": ("BatchNorm1d", (3,), {"dtype": FLOAT64}, None, torch.ones(4, 3)),
    "half module": ("BatchNorm1d", (3,), {"dtype": torch.float16}, None, torch.ones(4, 3)),
    "float64 buffers": ("BatchNorm1d", (3,), {}, "buffers", torch.ones(4, 3)),
    "eps 0": ("BatchNorm1d", (3,), {"eps": 0.0}, None, torch.ones(4, 3)),
    "eps < 0": ("BatchNorm1d", (3,), {"eps": -1.0}, None, torch.ones(4, 3)),
    "eps < 0 in eval mode": ("BatchNorm1d", (3,), {"eps": -1.0}, "eval", torch.ones(4, 3)),
    "empty": ("BatchNorm1d", (3,), {}, None, torch.ones(0, 3)),
    "not a tensor": ("BatchNorm1d", (3,), {}, None, [[1.0, 2.0, 3.0]]),
    "instance axes": ("InstanceNorm2d", (3,), {}, None, torch.ones(4, 3)),
    "instance channels": ("InstanceNorm1d", (3,), {"affine": True}, None, torch.ones(4, 5, 6)),
    "instance, one value": ("InstanceNorm2d", (3,), {}, None, torch.ones(4, 3, 1, 1)),
    "instance, one value, tracked": (
        "InstanceNorm1d", (3,), {"track_running_stats": True}, None, torch.ones(4, 3, 1),
    ),
    "instance dtype": (
        "InstanceNorm1d", (3,), {"affine": True}, None, torch.ones(4, 3, 6, dtype=FLOAT64),
    ),
    "group axes": ("GroupNorm", (1, 3), {}, None, torch.ones(3)),
    "group channels": ("GroupNorm", (1, 3), {}, None, torch.ones(4, 5, 6)),
    "group, one value": ("GroupNorm", (3, 3), {}, None, torch.ones(1, 3)),
    "group integers": ("GroupNorm", (1, 3), {}, None, torch.ones(2, 3, 4, dtype=torch.int64)),
    "group dtype": ("GroupNorm", (1, 3), {}, None, torch.ones(2, 3, 4, dtype=FLOAT64)),
    "layer shape": ("LayerNorm", ((3, 4),), {}, None, torch.ones(2, 4, 3)),
    "layer axes": ("LayerNorm", ((3, 4),), {}, None, torch.ones(4)),
    "layer integers": ("LayerNorm", (3,), {}, None, torch.ones(2, 3, dtype=torch.int64)),
    "layer dtype": ("LayerNorm", (3,), {}, None, torch.ones(2, 3, dtype=FLOAT64)),
    "no layer shape": ("LayerNorm", ((),), {}, None, torch.ones(2, 3)),
    "rms shape": ("RMSNorm", (3,), {}, None, torch.ones(2, 4)),
    "rms integers": ("RMSNorm", (3,), {}, None, torch.ones(2, 3, dtype=torch.int64)),
    "rms complex": ("RMSNorm", (3,), {}, None, torch.ones(2, 3, dtype=torch.complex64)),
}  # fmt: skip


def outcome(function):
    try:
        return function()
    except Exception as error:
        return error


def prepare(module, how):
    if how == "eval":
        module.eval()
    elif how == "buffers":
        module.running_mean = module.running_mean.double()
    return module


@pytest.mark.parametrize(("name", "args", "options"), CONSTRUCTION.values(), ids=CONSTRUCTION)
def test_constructor_refuses_what_torch_refuses(name, args, options):
    peer = outcome(lambda: getattr(nn, name)(*args, **options))
    assert isinstance(peer, Exception)
    with pytest.raises(type(peer)):
        getattr(bnn, name)(*args, **options)


@pytest.mark.parametrize(("name", "args", "options", "how", "x"), CALLS.values(), ids=CALLS)
def test_call_ends_as_torchs_and_a_failure_changes_nothing(name, args, options, how, x, kernel):
    ours, peer = (prepare(m, how) for m in pair(name, *args, **options))
    before = copy.deepcopy(ours.state_dict())
    expected, got = (outcome(lambda m=m: m(x)) for m in (peer, ours))
    assert type(got) is type(expected)
    if isinstance(expected, Exception):
        assert str(got) == str(expected)
        torch.testing.assert_close(dict(ours.state_dict()), dict(before), rtol=0, atol=0)
    else:
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(dict(ours.state_dict()), dict(peer.state_dict()))


def test_most_of_the_table_is_refused_by_torch():
    refused = 0
    for name, args, options, how, x in CALLS.values():
        module = prepare(getattr(nn, name)(*args, **options), how)
        refused += isinstance(outcome(lambda m=module, x=x: m(x)), Exception)
    assert refused >= len(CALLS) - 6


def test_wrong_number_of_channels_without_affine_warns_as_torch():
    x = torch.randn(2, 5, 6)
    with pytest.warns(UserWarning, match="does not match num_features"):
        y = bnn.InstanceNorm1d(3)(x)
    torch.testing.assert_close(y, nn.functional.instance_norm(x))


def test_interrupted_call_of_torchs_operation_counts_no_batch(monkeypatch):
    module = bnn.BatchNorm1d(3)

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(nn.functional, "batch_norm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        module(torch.ones(1, 3))
    assert module.num_batches_tracked == 0
