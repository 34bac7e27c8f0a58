import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp, trained
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bnlib.doctor.rules import dropout_before_norm as rule
from bnlib.surgery import freeze, recalibrate


def with_dropout(p, at=3):
    model = mlp()
    model.insert(at, nn.Dropout(p))
    return model


class Functional(Residual):
    """Dropout as a function, within the branch."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        x = F.relu(self.b(self.a(x)))
        x = x + self.d(self.c(F.dropout(x, self.p, self.training)))
        return self.e(x.mean((2, 3)))


def test_modules_and_functions_are_found():
    for model, data, norm in (
        (with_dropout(0.5), features(4, 64), "5"),
        (Functional(0.5), images(), "d"),
    ):
        [(where, evidence)] = found(rule, model, data)
        assert where == (norm,)
        assert 1.5 < evidence["ratio"] < 4


def test_the_ratio_is_that_of_theory():
    """Of independent features with mean zero, 1 / (1 - p)."""
    model = nn.Sequential(nn.Dropout(0.4), nn.BatchNorm1d(5), nn.Linear(5, 4))
    [(_, evidence)] = found(rule, model, features(4, 4000))
    assert evidence["ratio"] == pytest.approx(1 / 0.6, rel=0.05)


def test_dropout_behind_little_of_it_and_none_are_healthy():
    behind = mlp()
    behind.insert(6, nn.Dropout(0.5))
    for model in (behind, with_dropout(0.05), with_dropout(0.0), mlp()):
        assert found(rule, model, features(4, 64)) == []
    assert found(rule, Functional(0.0), images()) == []


def test_other_random_numbers_are_the_same_in_both_passes():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(5), nn.Linear(5, 4)

        def forward(self, x):
            y = F.dropout(x, 0.5)
            return self.head(self.norm(x * 3 ** torch.randn(()))) + y.sum()

    assert found(rule, Noisy(), features()) == []


def test_threshold(monkeypatch):
    model, data = with_dropout(0.5), features(4, 64)
    ratio = found(rule, model, data)[0][1]["ratio"]
    monkeypatch.setattr(rule, "RATIO", ratio * 1.01)
    assert found(rule, model, data) == []
    monkeypatch.setattr(rule, "RATIO", 1.01)
    assert found(rule, with_dropout(0.1), data)


def test_frozen_norms_are_healthy():
    model = with_dropout(0.5)
    freeze(model)
    assert found(rule, model, features(4, 64)) == []


def test_recalibration_without_dropout_is_the_cure_until_it_is_trained_again():
    data = features(4, 64)
    model = trained(with_dropout(0.5), data).eval()
    assert [where for where, _ in found(rule, model, data)] == [("5",)]
    recalibrate(model, data)
    assert found(rule, model, data) == []
    assert found(rule, model.train(), data)  # the next update takes dropout in again


def test_new_models_are_found_in_eval_mode_too():
    assert found(rule, with_dropout(0.5).eval(), features(4, 64))
