from doctor.planted import Residual, features, found, mlp, trained
from torch import nn

from bnlib.doctor.rules import mixed_eps as rule


def set_eps(model, name, eps):
    model.get_submodule(name).eps = eps
    return model


def test_a_norm_with_the_eps_of_another_framework_is_found():
    for model, name in ((mlp(), "4"), (Residual(), "d")):
        assert found(rule, model) == []
        if name == "4":  # two norms: which of them is "most" is the first
            assert found(rule, set_eps(model, name, 1e-3))[0][0] == (name,)
        else:
            [(where, evidence)] = found(rule, set_eps(model, name, 1e-3))
            assert where == (name,)
            assert (evidence["eps"], evidence["common"]) == (1e-3, 1e-5)


def test_all_alike_and_small_differences_are_healthy():
    model = mlp()
    for norm in (model[1], model[4]):
        norm.eps = 1e-3
    assert found(rule, model) == []
    assert found(rule, set_eps(mlp(), "4", 1e-6)) == []


def test_it_is_a_warning_where_the_variance_is_small():
    model = trained(mlp(), features())
    set_eps(model, "4", 1e-3)
    [mild] = list(rule.check(case(model)))
    assert mild.severity is None
    nn.init.constant_(model[4].running_var, 1e-3)
    [strong] = list(rule.check(case(model)))
    assert strong.severity == "warning"
    assert abs(strong.evidence["change"] - ((2e-3 / 1.01e-3) ** 0.5 - 1)) < 1e-6


def test_thresholds(monkeypatch):
    model = set_eps(mlp(), "4", 1e-3)
    monkeypatch.setattr(rule, "FACTOR", 101.0)
    assert found(rule, model) == []
    monkeypatch.setattr(rule, "FACTOR", 30.0)
    monkeypatch.setattr(rule, "CHANGE", 1e-6)
    [strong] = list(rule.check(case(model)))
    assert strong.severity == "warning"


def case(model):
    from bnlib.doctor.case import Case

    return Case(model)
