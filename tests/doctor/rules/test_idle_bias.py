import pytest
import torch
from doctor.planted import Residual, features, found, images, loss, mlp, trained
from surgery.batch_norm_act import BatchNormAct2d
from torch import nn

from bnlib.doctor.rules import idle_bias as rule
from bnlib.surgery import freeze


class OwnBias(nn.Module):
    """A bias that no layer of torch holds, added in the middle of a function."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(4, 1, 1))
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.norm = BatchNormAct2d(4)

    def forward(self, x):
        return self.norm(self.conv(x) + self.shift)


CASES = [
    (lambda: mlp(bias=True), features, ("0", "3")),
    (lambda: Residual(bias=True), images, ("a",)),  # a scale of 0 hides the second one
    (OwnBias, images, ("",)),
]


@pytest.mark.parametrize(("make", "data", "names"), CASES)
def test_bias_before_a_norm_is_found(make, data, names):
    torch.manual_seed(0)
    [(where, evidence)] = found(rule, make(), data())
    assert where == names
    assert evidence["largest_relative_gradient"] < 1e-10


def test_a_trained_residual_block_and_a_loss():
    model = trained(Residual(bias=True), images())
    assert found(rule, model, images(), loss=loss)[0][0] == ("a", "c")


def test_bias_before_an_instance_norm_without_statistics():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    assert found(rule, model, images())[0][0] == ("0",)


def test_biases_that_learn_are_healthy():
    between = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 4))
    layer = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    padded = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ZeroPad2d(1), nn.BatchNorm2d(4))
    for model, data in ((between, features()), (layer, features()), (padded, images())):
        assert found(rule, model, data) == []


def test_a_bias_before_a_frozen_norm_does_something():
    model = mlp(bias=True)
    freeze(model)
    assert found(rule, model, features()) == []


def test_a_bias_idle_for_another_reason_is_not_blamed_on_a_norm():
    class Key(nn.Module):
        """The bias of a key moves all scores alike, which softmax takes off."""

        def __init__(self):
            super().__init__()
            self.query, self.key, self.norm = nn.Linear(5, 5), nn.Linear(5, 5), nn.BatchNorm1d(5)

        def forward(self, x):
            scores = self.query(x) @ self.key(x).T
            return self.norm(scores.softmax(1) @ x)

    assert found(rule, Key(), features()) == []


def test_frozen_biases_are_not_idle():
    model = mlp(bias=True)
    model[0].bias.requires_grad_(False)
    assert found(rule, model, features())[0][0] == ("3",)


def test_models_that_insist_on_float32():
    class Single(nn.Sequential):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise AssertionError("float32 only")
            return super().forward(x)

    model = Single(*mlp(bias=True))
    assert found(rule, model, features())[0][0] == ("0", "3")
    assert found(rule, Single(*mlp()), features()) == []


@pytest.mark.parametrize(("limit", "is_found"), [(1e-25, False), (1e3, False), (1e-3, True)])
def test_threshold(limit, is_found, monkeypatch):
    monkeypatch.setattr(rule, "ROUNDING", 0)
    assert found(rule, mlp(bias=True), features())
    monkeypatch.setattr(rule, "IDLE", limit)
    assert bool(found(rule, mlp(bias=True), features())) == is_found
