import pytest
import torch
from doctor.planted import Residual, checked, features, found, images, mlp, trained
from torch import nn

from bnlib.doctor import norms
from bnlib.doctor.rules import too_few_updates as rule
from bnlib.surgery import freeze, recalibrate

CASES = [(mlp, features, ("1", "4")), (Residual, images, ("b", "d"))]


def shifted(data):
    return [(x + 3, y) for x, y in data]


@pytest.mark.parametrize(("make", "data", "names"), CASES)
def test_ten_steps_are_found_and_recalibration_is_the_cure(make, data, names):
    model = trained(make(), shifted(data()), 10)
    [(where, evidence)] = found(rule, model)
    assert {*where} == {*names}
    assert evidence["updates"] == 10
    [measured] = checked(rule, model, shifted(data()))
    assert measured.severity is None
    recalibrate(model, shifted(data()))
    assert found(rule, model, shifted(data())) == []
    assert [each.severity for each in checked(rule, model)] == ["note"]  # the counter alone


@pytest.mark.parametrize(("spread", "share"), [(0.0, 1.0), (0.01, None), (100.0, 0.8**4)])
def test_the_share_is_that_of_the_initial_variance_in_the_running_one(spread, share):
    """Above a variance of 1 it is that of the initial 0 and 1 in both statistics."""
    norm = nn.BatchNorm1d(1, momentum=0.2)
    for _ in range(4):
        norm(spread * torch.tensor([[-1.0], [1.0]]))
    [(_, evidence)] = found(rule, norm)
    share = share or 0.8**4 / float(norm.running_var)
    assert evidence["left"] == pytest.approx(share, rel=1e-5)


def test_few_updates_beside_a_small_variance_are_found():
    """Of the 1 one percent is left, which is as much as the data have."""
    norm = nn.BatchNorm1d(1)
    for _ in range(44):
        norm(0.1 * torch.tensor([[-1.0], [1.0]]))
    assert rule.LEFT > 0.9**44
    [(_, evidence)] = found(rule, norm)
    assert evidence["left"] > 0.3


def test_recomputed_averages_are_healthy():
    model = mlp()
    torch.optim.swa_utils.update_bn([x for x, _ in features()], model)
    assert model[1].num_batches_tracked == 4
    assert found(rule, model, features()) == []


@pytest.mark.parametrize(("make", "data", "names"), CASES)
def test_new_trained_even_and_frozen_averages_are_healthy(make, data, names):
    even, still, frozen = make(), make(), make()
    for name in names:
        even.get_submodule(name).momentum = None
        still.get_submodule(name).momentum = 0.0
    for model in (even, still, frozen):
        model(data()[0][0])
    freeze(frozen)
    for model in (make(), trained(make(), data(), 60), even, still, frozen):
        assert found(rule, model) == []


def test_thresholds(monkeypatch):
    model = trained(mlp(), shifted(features()), 10)
    assert norms.LEFT == rule.LEFT
    [(_, evidence)] = found(rule, model)
    monkeypatch.setattr(rule, "LEFT", evidence["left"] * 1.01)
    assert found(rule, model) == []
    monkeypatch.setattr(rule, "LEFT", evidence["left"] * 0.99)
    assert found(rule, model)
    monkeypatch.setattr(rule, "GAP", 100.0)
    assert found(rule, model)
    assert found(rule, model, shifted(features())) == []


def test_a_difference_that_few_examples_make_by_chance_is_healthy():
    model = nn.BatchNorm1d(50)
    x = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    model(x)
    model.running_mean.zero_()
    assert [where for where, _ in found(rule, model)] == [("",)]
    assert found(rule, model, [x[:8], x[8:16]]) == []
