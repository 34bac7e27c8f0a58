import math

import pytest
import torch
from doctor.planted import Residual, features, found, mlp, trained
from surgery.batch_norm_act import Frozen

from bnlib.doctor.rules import nonfinite_statistics as rule


@pytest.mark.parametrize("make", [mlp, Residual])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_poisoned_statistics_are_found_in_model_and_state_dict(make, value):
    model = make()
    name = "4" if make is mlp else "d"
    model.get_submodule(name).running_var[1] = value
    evidence = {"nonfinite": 1, "norms": 1, "parameters": False}
    assert found(rule, model) == found(rule, model.state_dict()) == [((name,), evidence)]


def test_one_batch_with_a_nan_poisons_for_good():
    model, data = mlp(), features()
    model(torch.full((4, 5), math.nan))
    model[1].weight.data[0] = math.inf
    expected = [
        (("1", "4"), {"nonfinite": 32, "norms": 2, "parameters": False}),
        (("1",), {"nonfinite": 1, "norms": 1, "parameters": True}),
    ]
    assert found(rule, trained(model, data, 0)) == expected


def test_frozen_norms_of_other_libraries_are_seen():
    norm = Frozen(3)
    norm.weight[0] = math.nan
    assert found(rule, norm) == [(("",), {"nonfinite": 1, "norms": 1, "parameters": True})]


def test_trained_models_are_healthy():
    assert found(rule, trained(mlp(), features())) == []
