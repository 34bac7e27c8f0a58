"""What the surgery takes for a plain batch norm is one, whatever its class and attributes say."""

import copy

import pytest
import torch
from surgery.architectures import randomize
from surgery.batch_norm_act import (
    BatchNormAct2d,
    BatchNormReLU,
    Before,
    Contiguous,
    Frozen,
    Noisy,
    Unused,
)
from torch import nn

from bnlib import nn as bnn
from bnlib.surgery._family import axes, is_plain, others, say, split

PLAIN = [
    nn.BatchNorm1d(4),
    nn.BatchNorm3d(4, affine=False),
    nn.BatchNorm2d(4, track_running_stats=False),
    nn.SyncBatchNorm(4),
    bnn.BatchNorm2d(4),
    bnn.SyncBatchNorm(4),
    bnn.convert_sync_batchnorm(nn.BatchNorm2d(4)),
    bnn.convert_sync_batchnorm(Contiguous(4)),
    Contiguous(4),
    BatchNormAct2d(4, act_layer=None),
]
NOT_PLAIN = [
    bnn.GhostBatchNorm2d(4),  # one ghost batch is a batch
    bnn.BatchRenorm2d(4),
    bnn.MaskedBatchNorm1d(4),
    bnn.ConditionalBatchNorm2d(4, num_conditions=2),
    BatchNormAct2d(4),
    BatchNormAct2d(4, act_layer=None, drop_layer=lambda: nn.Dropout(0.5)),
    BatchNormReLU(4),
    bnn.convert_sync_batchnorm(BatchNormReLU(4)),
    Noisy(4),
    Unused(4),
    nn.InstanceNorm2d(4),
    nn.ReLU(),
]


def name(module):
    return f"{type(module).__module__}.{type(module).__name__}"


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("module", PLAIN, ids=name)
def test_plain(module, zero):
    module = copy.deepcopy(module)
    if zero and module.weight is not None:
        nn.init.zeros_(module.weight)
    before = copy.deepcopy(module.state_dict())
    assert is_plain(module)
    assert split(module) is None
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_lazy_is_plain():
    assert is_plain(nn.LazyBatchNorm2d())
    assert split(nn.LazyBatchNorm2d()) is None


@pytest.mark.parametrize("module", NOT_PLAIN, ids=name)
def test_not_plain(module):
    module = copy.deepcopy(module)
    if getattr(module, "weight", None) is not None:
        nn.init.zeros_(module.weight)  # as in the last batch norm of a residual branch
    assert not is_plain(module)


def test_forward_of_an_instance():
    module = nn.BatchNorm2d(4)
    module.forward = lambda x: nn.BatchNorm2d.forward(module, x).relu()
    assert not is_plain(module)
    assert split(module) is None


@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.LeakyReLU])
@pytest.mark.parametrize("drop", [None, nn.Dropout2d])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_split(act, drop, training, dtype):
    module = BatchNormAct2d(4, act, drop).to(dtype).train(training)
    randomize(module)
    plain, behind = split(module)
    assert type(plain) is nn.BatchNorm2d
    assert plain.weight is module.weight
    assert plain.running_var is module.running_var
    assert plain.training == training
    assert behind == ([module.act] if drop is None else [module.drop, module.act])
    x = torch.randn(3, 4, 5, 5, dtype=dtype)
    with torch.random.fork_rng():
        expected = copy.deepcopy(module).float()(x.float())
    y = nn.Sequential(plain, *behind).float()(x.float())
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("kind", [Unused, Before, BatchNormReLU, nn.BatchNorm2d])
def test_attributes_alone_do_not_split(kind):
    assert split(kind(4)) is None


def test_random_state_stays():
    state = torch.random.get_rng_state()
    split(BatchNormAct2d(4, drop_layer=nn.Dropout2d))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_axes():
    assert axes(nn.BatchNorm1d(2)) == {2, 3}
    assert axes(bnn.GhostBatchNorm2d(2)) == {4}
    assert axes(bnn.convert_sync_batchnorm(nn.BatchNorm3d(2))) == {5}
    assert axes(nn.SyncBatchNorm(2)) == {2, 3, 4, 5}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_others():
    norms = [
        Frozen(3),
        Frozen(3),
        bnn.FrozenBatchNorm2d(3),
        bnn.DecorrelatedBatchNorm2d(4),
        nn.InstanceNorm2d(4, track_running_stats=True),
        torch.jit.script(nn.BatchNorm3d(3)),
        bnn.ScaleNorm(3),
    ]
    model = nn.ModuleList([*norms, nn.BatchNorm2d(3), nn.Linear(3, 3)])
    assert others(model) == {
        "Frozen": 2,
        "FrozenBatchNorm2d": 1,
        "DecorrelatedBatchNorm2d": 1,
        "InstanceNorm2d": 1,
        "BatchNorm3d": 1,
        "ScaleNorm": 1,
    }
    assert say(others(model[:3])) == "2 Frozen, 1 FrozenBatchNorm2d"
