import pytest
from doctor.planted import Residual, checked, features, found, images, mlp, trained
from torch import nn

from bnlib.doctor.rules import shifted_input as rule
from bnlib.nn import FrozenBatchNorm1d
from bnlib.surgery import adapt, freeze, replace, to

CASES = [(mlp, features, "1"), (Residual, images, "b")]


def as_bytes(data):
    return [(64 * x + 128, y) for x, y in data]


@pytest.mark.parametrize(("make", "data", "first"), CASES)
def test_another_preprocessing_is_found_and_adapting_is_the_cure(make, data, first):
    model = trained(make(), data())
    assert found(rule, model, data()) == []
    [(where, evidence)] = found(rule, model, as_bytes(data()))
    assert where == (first,)
    assert evidence["gap"] > 10
    assert evidence["examples"] == 64
    assert found(rule, adapt(model, as_bytes(data())), as_bytes(data())) == []


def test_the_gap_of_a_shift():
    model = trained(nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4)), features())
    norm = model[0]
    x = features(4, 400)
    moved = [(each + 2 * norm.running_var.sqrt(), y) for each, y in x]
    assert found(rule, model, moved)[0][1]["gap"] == pytest.approx(2, abs=0.5)


def test_other_statistics_behind_the_first_norm_are_another_rule():
    model = trained(mlp(), features())
    model[4].running_mean += 9
    assert found(rule, model, features()) == []


def test_new_models_are_healthy_frozen_or_not():
    for model in (mlp(), trained(mlp(), features(), 3)):
        assert found(rule, model, as_bytes(features())) == []
    frozen = replace(mlp(), to(FrozenBatchNorm1d))
    assert found(rule, frozen, as_bytes(features())) == []
    instance = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, track_running_stats=True))
    for batch in images(40):
        instance(batch[0])
    assert found(rule, instance, as_bytes(images())) == []


def test_a_frozen_backbone_does_not_hide_it():
    model = trained(mlp(), features())
    freeze(model)
    assert found(rule, model, features()) == []
    assert found(rule, model, as_bytes(features()))[0][0] == ("1",)


@pytest.mark.parametrize(("name", "value"), [("GAP", 1e9), ("NOISE", 1e9)])
def test_thresholds(name, value, monkeypatch):
    model = trained(mlp(), features())
    monkeypatch.setattr(rule, name, value)
    assert found(rule, model, as_bytes(features())) == []
    monkeypatch.setattr(rule, name, 1e-6)
    monkeypatch.setattr(rule, "GAP", 1e-6)
    assert bool(found(rule, model, features())) == (name == "NOISE")


def test_other_data_at_a_frozen_norm_are_a_note():
    model = trained(mlp(), features())
    assert [each.severity for each in checked(rule, model, as_bytes(features()))] == [None]
    freeze(model)
    assert [each.severity for each in checked(rule, model, as_bytes(features()))] == ["note"]
