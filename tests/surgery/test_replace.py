"""Other norms in the place of batch norms, with their parameters."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from random_inputs import SEED
from surgery.architectures import SHAPES, ResNet, build, example, randomize
from torch import nn

from bnlib.surgery import group_norm, instance_norm, layer_norm, replace

IMAGES = torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(SEED))


def batch_norm(kind=nn.BatchNorm2d, channels=6, **options):
    norm = kind(channels, eps=0.01, **options)
    randomize(norm)
    return norm


@pytest.mark.parametrize("factory", [group_norm(2), layer_norm(), group_norm(99)])
@pytest.mark.parametrize("architecture", SHAPES)
def test_architecture_runs_without_batch_norm(architecture, factory):
    model, x = build(architecture), example(architecture)
    before = copy.deepcopy(model.state_dict())
    result = replace(model.train(), factory)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in result.modules())
    result.eval()
    torch.testing.assert_close(result(x)[:1], result(x[:1]))  # no example sees another
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_parameters_are_kept():
    norm = batch_norm()
    norm.weight.requires_grad_(False)
    weight, bias = norm.weight, norm.bias
    model = nn.Sequential(norm)
    expected = F.group_norm(IMAGES, 3, weight, bias, 0.01)
    torch.testing.assert_close(replace(model, group_norm(3))(IMAGES), expected)
    expected = F.group_norm(IMAGES, 1, weight, bias, 0.01)
    torch.testing.assert_close(replace(model, layer_norm())(IMAGES), expected)
    expected = F.instance_norm(IMAGES, None, None, weight, bias, eps=0.01)
    new = replace(model, instance_norm())
    torch.testing.assert_close(new(IMAGES), expected)
    assert not new[0].weight.requires_grad
    assert new[0].weight is not weight


@pytest.mark.parametrize("options", [{"affine": False}, {"bias": False}])
def test_absent_parameters_stay_absent(options):
    norm = batch_norm(**options)
    for factory in (group_norm(3), layer_norm(), instance_norm()):
        new = replace(norm, factory)
        assert new.bias is None
        assert (new.weight is None) == (norm.weight is None)
        assert new(IMAGES).isfinite().all()


@pytest.mark.parametrize(
    ("channels", "most", "groups"), [(64, 32, 32), (48, 32, 24), (4, 4, 2), (7, 32, 1), (12, 5, 4)]
)
def test_number_of_groups(channels, most, groups):
    assert group_norm(most)(nn.BatchNorm1d(channels)).num_groups == groups


def test_features_are_not_erased():
    x = torch.randn(5, 4)
    assert replace(nn.BatchNorm1d(4), group_norm(4))(x).abs().mean() > 0.5
    for factory in (group_norm(1), layer_norm()):
        with pytest.raises(ValueError, match=r"0: .* would erase it"):
            replace(nn.Sequential(nn.BatchNorm1d(1)), factory)
        assert factory(nn.BatchNorm2d(1)).num_groups == 1
    for kind in (nn.BatchNorm1d, nn.SyncBatchNorm):
        with pytest.raises(ValueError, match="an instance norm leaves nothing"):
            replace(kind(4), instance_norm())


def test_own_factory_modes_and_names():
    model = build(ResNet)
    model.alias = model.stem[1]
    model.blocks[0].bn1.train()
    result = replace(model, lambda norm: nn.LocalResponseNorm(norm.num_features), ["stem.1"])
    assert result.alias is result.stem[1]
    assert isinstance(result.alias, nn.LocalResponseNorm)
    assert not result.alias.training
    result = replace(model, layer_norm())
    assert result.blocks[0].bn1.training
    assert not result.blocks[0].bn2.training


def test_refused():
    with pytest.raises(TypeError, match=r"stem\.1: the factory returned no module but int"):
        replace(build(ResNet), lambda norm: 3)
    with pytest.raises(ValueError, match="no batch norm"):
        replace(nn.Linear(2, 2), layer_norm())
    with pytest.raises(ValueError, match="num_groups must be at least 1, not 0"):
        group_norm(0)
