import pytest
from doctor.planted import Residual, features, found, images, mlp, trained

from bnlib.doctor import norms
from bnlib.doctor.rules import train_eval_gap as rule
from bnlib.surgery import freeze, recalibrate


def shifted(data, by=3.0, scale=1.0):
    return [(x * scale + by, y) for x, y in data]


CASES = [(mlp, features, "1"), (Residual, images, "b")]


@pytest.mark.parametrize(("make", "data", "first"), CASES)
def test_other_data_are_found_and_recalibration_is_the_cure(make, data, first):
    model = trained(make(), data())
    assert found(rule, model, data()) == []
    [(where, evidence)] = found(rule, model, shifted(data()))
    assert first in where
    assert evidence["gap"] > 0.6
    recalibrate(model, shifted(data()))
    assert found(rule, model, shifted(data())) == []


@pytest.mark.parametrize(("make", "data", "first"), CASES)
def test_a_scale_is_found(make, data, first):
    model = trained(make(), data())
    assert first in found(rule, model, shifted(data(), 0, 5.0))[0][0]


def test_statistics_of_one_norm_are_found_there_only():
    model = trained(mlp(), features())
    model[4].running_mean += 4 * model[4].running_var.sqrt()
    [(where, evidence)] = found(rule, model, features())
    assert where == ("4",)
    assert evidence["gap"] == pytest.approx(4, rel=0.2)
    assert evidence["outputs"] > 0.1


def test_new_models_and_averages_that_have_not_arrived_are_not_looked_at():
    assert found(rule, mlp(), shifted(features())) == []
    assert found(rule, trained(mlp(), features(), 5), shifted(features())) == []


def test_frozen_backbones_are_healthy():
    model = trained(mlp(), features())
    freeze(model)
    assert found(rule, model, shifted(features())) == []


def test_few_examples_are_no_evidence():
    model = trained(mlp(), features())
    few = features(1, 9, seed=7)
    assert found(rule, model, few) == []


@pytest.mark.parametrize(("name", "value"), [("GAP", 10.0), ("NOISE", 100.0), ("LEFT", 1e-9)])
def test_thresholds(name, value, monkeypatch):
    model = trained(mlp(), features())
    assert found(rule, model, shifted(features()))
    monkeypatch.setattr(norms if name == "LEFT" else rule, name, value)
    assert found(rule, model, shifted(features())) == []


def test_smaller_threshold_cries_wolf(monkeypatch):
    model = trained(mlp(), features())
    monkeypatch.setattr(rule, "GAP", 1e-3)
    monkeypatch.setattr(rule, "NOISE", 1e-3)
    assert found(rule, model, features())
