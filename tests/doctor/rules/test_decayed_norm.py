import pytest
import torch
from doctor.planted import Residual, found, mlp
from torch import nn

from bnlib.doctor.rules import decayed_norm as rule
from bnlib.surgery import freeze, parameter_groups


@pytest.mark.parametrize(("make", "names"), [(mlp, ("1", "4")), (Residual, ("b", "d"))])
def test_decay_of_everything_is_found(make, names):
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    evidence = {"norms": 2, "weight_decay": 0.01}
    assert found(rule, model, optimizer=optimizer) == [(names, evidence)]


def test_layer_norms_count_too():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    assert found(rule, model, optimizer=optimizer)[0][0] == ("1",)


def test_groups_without_decay_and_frozen_norms_are_healthy():
    model = mlp()
    groups = torch.optim.SGD(parameter_groups(model, 0.01), lr=0.1)
    without = torch.optim.SGD(model.parameters(), lr=0.1)
    assert found(rule, model, optimizer=groups) == []
    assert found(rule, model, optimizer=without) == []
    freeze(model)
    frozen = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    assert found(rule, model, optimizer=frozen) == []
