import pytest
from doctor.planted import Residual, features, found, mlp, trained

from bnlib.doctor.rules import negative_variance as rule
from bnlib.nn import DecorrelatedBatchNorm1d


@pytest.mark.parametrize("make", [mlp, Residual])
def test_extrapolated_average_is_found_in_model_and_state_dict(make):
    model = make()
    name = "4" if make is mlp else "d"
    model.get_submodule(name).running_var[:2] -= 1.5
    expected = [((name,), {"channels": 2, "least": -0.5})]
    assert found(rule, model) == found(rule, model.state_dict()) == expected


def test_the_least_comes_first_in_one_finding():
    model = mlp()
    model[1].running_var[0], model[4].running_var[:3] = -1, -2
    assert found(rule, model) == [(("4", "1"), {"channels": 4, "least": -2.0})]


def test_diagonal_of_a_covariance():
    norm = DecorrelatedBatchNorm1d(4, group_size=2)
    assert found(rule, norm) == []
    norm.running_cov.diagonal(dim1=-2, dim2=-1).fill_(-1)
    assert found(rule, norm) == [(("",), {"channels": 4, "least": -1.0})]


def test_zero_and_trained_variances_are_healthy():
    model = trained(mlp(), features())
    model[1].running_var[0] = 0
    assert found(rule, model) == []
