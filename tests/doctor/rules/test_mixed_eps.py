from doctor.planted import Residual, checked, features, found, mlp, trained
from torch import nn

from bnlib.doctor.rules import mixed_eps as rule


def set_eps(model, name, eps):
    model.get_submodule(name).eps = eps
    return model


def test_a_norm_with_the_eps_of_another_framework_is_found():
    for make, names in ((mlp, ("1", "4")), (Residual, ("b", "d"))):
        assert found(rule, make()) == []
        for name in names:  # of two norms, that with the eps of PyTorch is the common one
            [(where, evidence)] = found(rule, set_eps(make(), name, 1e-3))
            assert where == (name,)
            assert (evidence["eps"], evidence["common"]) == (1e-3, 1e-5)


def test_without_a_running_variance_no_change_is_told():
    without = mlp(norm=lambda c: nn.BatchNorm1d(c, track_running_stats=False))
    [told] = checked(rule, set_eps(without, "4", 1e-3))
    assert told.message == "The eps of 1 norm is 0.001, that of 1 other is 1e-05."
    assert "by 4.9% or more" in checked(rule, set_eps(mlp(), "4", 0.1))[0].message


def test_all_alike_and_small_differences_are_healthy():
    model = mlp()
    for norm in (model[1], model[4]):
        norm.eps = 1e-3
    assert found(rule, model) == []
    assert found(rule, set_eps(mlp(), "4", 1e-6)) == []


def test_it_is_a_warning_where_the_variance_is_small():
    model = trained(mlp(), features())
    set_eps(model, "4", 1e-3)
    [mild] = checked(rule, model)
    assert mild.severity is None
    nn.init.constant_(model[4].running_var, 1e-3)
    [strong] = checked(rule, model)
    assert strong.severity == "warning"
    assert abs(strong.evidence["change"] - ((2e-3 / 1.01e-3) ** 0.5 - 1)) < 1e-6


def test_thresholds(monkeypatch):
    model = set_eps(mlp(), "4", 1e-3)
    with monkeypatch.context() as patch:
        patch.setattr(rule, "PYTORCH", 1e-3)
        assert found(rule, model)[0][0] == ("1",)
    monkeypatch.setattr(rule, "FACTOR", 101.0)
    assert found(rule, model) == []
    monkeypatch.setattr(rule, "FACTOR", 30.0)
    monkeypatch.setattr(rule, "CHANGE", 1e-6)
    [strong] = checked(rule, model)
    assert strong.severity == "warning"
