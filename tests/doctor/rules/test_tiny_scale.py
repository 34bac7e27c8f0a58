import pytest
import torch
from doctor.planted import Residual, checked, features, found, images, mlp, trained
from torch import nn

from bnlib.doctor.rules import tiny_scale as rule


@pytest.mark.parametrize(("make", "name", "of"), [(mlp, "4", 8), (Residual, "b", 6)])
def test_scales_near_zero_are_found_in_model_and_state_dict(make, name, of):
    model = make()
    with torch.no_grad():
        model.get_submodule(name).weight[:2] = torch.tensor([0.0, -1e-5])
    expected = [((name,), {"channels": 2, "share": 2 / of})]
    assert found(rule, model) == found(rule, model.state_dict()) == expected


def test_weight_decay_alone_makes_them():
    """On a channel that no loss asks for, and without decay there are none: the cure."""
    for decay in (0.0, 1.0):
        model = mlp()
        with torch.no_grad():
            model[3].weight[:, 0] = 0
            model[6].weight[:, 0] = 0
        optimizer = torch.optim.SGD([model[4].weight], lr=0.1, weight_decay=decay)
        for _ in range(80):
            optimizer.zero_grad()
            model[4].weight[1:].sub(1).square().sum().backward()
            optimizer.step()
        assert [where for where, _ in found(rule, model)] == ([("4",)] if decay else [])


@pytest.mark.parametrize(("make", "data"), [(mlp, features), (Residual, images)])
def test_new_models_and_trained_ones_are_healthy(make, data):
    assert found(rule, make()) == []  # all scales of the residual branch are zero
    assert found(rule, trained(make(), data())) == []
    assert found(rule, nn.BatchNorm1d(3, affine=False)) == []


def test_threshold(monkeypatch):
    norm = nn.BatchNorm1d(3)
    with torch.no_grad():
        norm.weight[0] = 0.0011
    assert found(rule, norm) == []
    monkeypatch.setattr(rule, "TINY", 2e-3)
    assert found(rule, norm)


def test_scales_that_no_gradient_reaches_are_found():
    """Zero scales before a ReLU, and no sum around them; in a residual branch they learn."""
    model = mlp()
    for name in (1, 4):
        nn.init.zeros_(model[name].weight)
    assert found(rule, model) == found(rule, model, features(1, 1)) == []  # it cannot be told
    assert found(rule, model, features()) == [(("1", "4"), {"norms": 2})]
    assert checked(rule, model, features())[0].severity == "warning"
    nn.init.ones_(model[1].weight)
    nn.init.ones_(model[4].weight)
    assert found(rule, model, features()) == found(rule, Residual(), images()) == []
