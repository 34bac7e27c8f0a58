import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp, trained
from torch import nn

from bnlib.doctor.rules import far_from_zero as rule


def moved(data, by):
    return [(x + by, y) for x, y in data]


CASES = [
    (lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4)), features, "0"),
    (lambda: nn.Sequential(nn.Identity(), nn.BatchNorm2d(3)), images, "1"),
]


@pytest.mark.parametrize(("make", "data", "name"), CASES)
def test_large_constants_are_found_and_taken_off(make, data, name):
    far = moved(data(), 3000.0)
    [(where, evidence)] = found(rule, make(), far)
    assert where == (name,)
    x = torch.stack([x.double().transpose(0, 1).flatten(1) for x, _ in far])
    ratio = (x.mean(2).abs() / x.std(2, correction=0)).max()
    assert evidence["deviations"] == pytest.approx(float(ratio), rel=1e-6)
    assert found(rule, make(), moved(far, -3000.0)) == []


def relative_error(x, ratio):
    """Of the variance of values of variance 1 around `ratio`, by the difference in float32."""
    x = (x + ratio).float()
    exact = x.double().var(correction=0)
    return abs(float((x**2).mean() - x.mean() ** 2 - exact)) / float(exact)


def test_the_limits_are_where_rounding_reaches_a_tenth():
    x = torch.randn(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = (x - x.mean()) / x.std()
    at = rule._limit(torch.float32)
    assert 900 < at < 930
    assert relative_error(x, at / 10) < 0.02
    assert relative_error(x, at * 10) > 0.2
    at = rule._limit(torch.bfloat16)
    assert (x + at).bfloat16().double().var() == pytest.approx(1.1, abs=0.08)
    assert (x + at / 4).bfloat16().double().var() == pytest.approx(1.0, abs=0.02)


def test_usual_and_constant_inputs_are_healthy():
    for model, data in ((mlp(), features()), (Residual(), images())):
        assert found(rule, model, data) == found(rule, trained(model, data), data) == []
    assert found(rule, mlp(), moved(features(), 300.0)) == []
    constant = [(torch.full((16, 5), 1e4), y) for _, y in features()]
    assert found(rule, CASES[0][0](), constant) == []


def test_half_precision_has_a_nearer_limit():
    model = nn.Sequential(nn.BatchNorm1d(5)).bfloat16()
    data = [(x.bfloat16(), y) for x, y in moved(features(4, 64), 250.0)]
    [(_, evidence)] = found(rule, model, data)
    assert evidence["limit"] == pytest.approx(1.2**0.5 * 128)


def test_threshold(monkeypatch):
    model, data = CASES[0][0](), moved(features(), 3000.0)
    monkeypatch.setattr(rule, "ROUNDING", 20.0)
    assert found(rule, model, data) == []
    monkeypatch.setattr(rule, "ROUNDING", 1e-8)
    assert found(rule, model, features())
