import pytest
import torch
from doctor.planted import Residual, checked, features, found, images, mlp
from torch import nn

from bnlib.doctor.rules import half_statistics as rule
from bnlib.surgery import freeze, pause_statistics

KINDS = [(torch.bfloat16, "bfloat16", 2**-8), (torch.float16, "float16", 2**-11)]


@pytest.mark.parametrize(("make", "names"), [(mlp, ("1", "4")), (Residual, ("b", "d"))])
@pytest.mark.parametrize(("dtype", "kind", "stall"), KINDS)
def test_a_cast_model_in_train_mode_is_found(make, names, dtype, kind, stall):
    model = make().to(dtype)
    assert found(rule, model) == [(names, {"norms": 2, "dtype": kind, "stall": stall})]


def test_the_average_stalls_where_the_rule_says():
    """At a momentum of 0.1, 4 % below the mean of the data in bfloat16."""
    norm = nn.BatchNorm1d(1).bfloat16()
    norm.running_mean.fill_(1.0)
    x = torch.tensor([[0.0], [2.0]], dtype=torch.bfloat16)
    for by, is_stuck in ((0.03, True), (0.08, False)):
        norm.running_mean.fill_(1.0)
        for _ in range(200):
            norm(x + by)
        assert (float(norm.running_mean) == 1.0) == is_stuck


def test_the_cure_works():
    model = mlp().bfloat16()
    for module in (model[1], model[4]):
        module.float()
    model(features()[0][0].bfloat16())
    assert found(rule, model) == []


def test_inference_frozen_norms_and_autocast_are_healthy():
    assert found(rule, Residual().bfloat16().eval()) == []
    model = mlp().half()
    freeze(model)
    assert found(rule, model.train()) == []
    model = mlp().half()
    with pause_statistics(model):
        assert found(rule, model) == []
    model = Residual()
    with torch.autocast("cpu", torch.bfloat16):
        model(images()[0][0])
        assert found(rule, model) == []


@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, "0.39%"), (torch.float16, "0.049%")])
def test_the_message_holds_a_share_above_zero(dtype, share):
    [each] = checked(rule, mlp().to(dtype))
    assert f"below {share} of the value" in each.message
