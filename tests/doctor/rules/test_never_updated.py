import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp, trained
from torch import nn

from bnlib.doctor.rules import never_updated as rule
from bnlib.nn import FrozenBatchNorm1d
from bnlib.surgery import recalibrate

CASES = [(mlp, features, ("1", "4")), (Residual, images, ("b", "d"))]


@pytest.mark.parametrize(("make", "data", "names"), CASES)
def test_parameters_without_buffers_are_found_and_both_cures_work(make, data, names):
    source, target = trained(make(), data()), make()
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.data.copy_(new.data)
    expected = [(names, {"norms": 2, "of": 2, "learned": 2})]
    assert found(rule, target) == found(rule, target.state_dict()) == expected
    recalibrate(target, data())
    assert found(rule, target) == []
    target.load_state_dict(source.state_dict())
    assert found(rule, target) == []


def test_a_norm_in_eval_mode_during_all_of_the_training_is_found():
    model = mlp()
    model[4].eval()
    trained(model, features())
    assert found(rule, model) == [(("4",), {"norms": 1, "of": 2, "learned": 1})]


@pytest.mark.parametrize("make", [mlp, Residual])
def test_new_models_are_healthy(make):
    assert found(rule, make()) == []


def test_random_scales_of_a_new_model_are_healthy():
    """As those of DCGAN."""
    model = Residual()
    for norm in (model.b, model.d):
        nn.init.normal_(norm.weight, 1.0, 0.02)
    assert found(rule, model) == []


def test_a_new_head_on_a_trained_backbone_is_healthy():
    backbone = trained(mlp(), features())
    head = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False))
    assert found(rule, nn.Sequential(backbone, head)) == []


def test_a_norm_without_scales_goes_with_the_others():
    model = nn.Sequential(nn.BatchNorm1d(5), nn.BatchNorm1d(5, affine=False))
    nn.init.normal_(model[0].weight)
    nn.init.normal_(model[0].bias)
    assert found(rule, model) == [(("0", "1"), {"norms": 2, "of": 2, "learned": 1})]


def test_one_channel_tells_nothing():
    model = nn.Sequential(nn.BatchNorm1d(1))
    with torch.no_grad():
        model[0].weight.fill_(3.0)
    assert found(rule, model) == []


def test_always_frozen_norms_with_scales_alone_are_healthy():
    model = nn.Sequential(nn.Linear(5, 8), FrozenBatchNorm1d(8))
    for key in ("weight", "bias"):
        nn.init.normal_(getattr(model[1], key))
    assert found(rule, model) == []
