import pytest
import torch
from doctor.planted import Residual, checked, features, found, images, mlp, trained
from random_inputs import SEED
from torch import nn

from bnlib.doctor import examine
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


def test_new_models_and_parts_are_not_looked_at():
    assert found(rule, mlp(), shifted(features())) == []
    model = recalibrated(trained(mlp(), features()))
    model[4] = nn.BatchNorm1d(8)  # its outputs are its inputs in eval mode
    assert found(rule, model, features()) == []
    model[4] = nn.BatchNorm1d(8, affine=False)
    assert found(rule, model, features()) == []


def test_young_and_forgotten_statistics_are_a_note_beside_their_cause():
    young = trained(mlp(), features(), 5)
    forgotten = trained(mlp(), features())
    for norm in (forgotten[1], forgotten[4]):
        norm.reset_running_stats()
    for model, cause in ((young, "too-few-updates"), (forgotten, "never-updated")):
        [told] = examine(model, features(), select=["train-eval-gap"]).findings
        assert told.severity == "warning"
        both = examine(model, features(), select=["train-eval-gap", cause]).findings
        assert [(f.rule, f.severity) for f in both] == [
            (cause, "warning"),
            ("train-eval-gap", "note"),
        ]


def recalibrated(model, data=None):
    recalibrate(model, data or features())
    return model


def late(by):
    """Return a network of three layers in which each mean is off by so many deviations."""
    torch.manual_seed(SEED)
    layers = []
    for n in (5, 16, 16):
        layers += [nn.Linear(n, 16), nn.BatchNorm1d(16), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(16, 4))
    for norm in layers[1::3]:
        nn.init.normal_(norm.weight, 1, 0.1)
        nn.init.normal_(norm.bias, 0, 0.1)
    recalibrated(model, features(4, 256))
    for norm in layers[1::3]:
        norm.running_mean += by * norm.running_var.sqrt()
    return model


def test_small_gaps_that_add_up_are_found_and_recalibration_is_the_cure():
    model, data = late(0.22), features(4, 256)
    [(where, evidence)] = found(rule, model, data)
    assert where == ("1", "4", "7")
    assert evidence["gap"] < rule.GAP
    assert evidence["outputs"] > rule.SOME_OUTPUTS
    assert found(rule, recalibrated(model, data), data) == []


class Noisy(nn.Sequential):
    """Train mode and eval mode differ by something else than statistics."""

    def forward(self, x):
        y = super().forward(x)
        return y + torch.randn_like(y) if self.training else y


def test_statistics_of_few_examples_in_a_deep_network_are_no_evidence(monkeypatch):
    """Their noise adds up, too, and is told by that of two halves of the examples."""
    torch.manual_seed(SEED)
    layers = [m for _ in range(20) for m in (nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU())]
    model = nn.Sequential(nn.Linear(5, 16), *layers)
    for norm in layers[1::3]:
        nn.init.normal_(norm.weight, 1, 0.1)
        nn.init.normal_(norm.bias, 0, 0.1)
    recalibrated(model, features(4, 12, seed=1))
    data = features(2, 12)
    assert found(rule, model, data) == []
    monkeypatch.setattr(rule, "CHANCE", 0.0)
    assert found(rule, model, data)


def test_noise_of_another_origin_and_dropout_are_healthy():
    model = recalibrated(Noisy(*trained(mlp(), features())))
    assert found(rule, model, features()) == []
    model = recalibrated(nn.Sequential(*trained(mlp(), features()), nn.Dropout(0.5)))
    assert found(rule, model, features()) == []


def test_frozen_backbones_are_healthy():
    model = trained(mlp(), features())
    freeze(model)
    assert found(rule, model, shifted(features())) == []


def test_few_examples_are_no_evidence():
    model = trained(mlp(), features())
    few = features(1, 9, seed=7)
    assert found(rule, model, few) == []


@pytest.mark.parametrize("name", ["GAP", "NOISE"])
def test_thresholds(name, monkeypatch):
    model = trained(mlp(), features())
    assert found(rule, model, shifted(features()))
    monkeypatch.setattr(rule, "SOME_OUTPUTS", 100.0)
    monkeypatch.setattr(rule, name, 100.0)
    assert found(rule, model, shifted(features())) == []


@pytest.mark.parametrize(
    ("name", "value", "severities"),
    [
        ("OUTPUTS", 10.0, ["note"]),
        ("OUTPUTS", 0.0, [None]),
        ("SOME_OUTPUTS", 10.0, []),
        ("CHANCE", 100.0, []),
    ],
)
def test_thresholds_of_outputs(name, value, severities, monkeypatch):
    model, data = late(0.22), features(4, 256)
    assert found(rule, model, data)
    monkeypatch.setattr(rule, name, value)
    assert [told.severity for told in checked(rule, model, data)] == severities


def test_smaller_threshold_cries_wolf(monkeypatch):
    model = trained(mlp(), features())
    monkeypatch.setattr(rule, "GAP", 1e-3)
    monkeypatch.setattr(rule, "NOISE", 1e-3)
    assert found(rule, model, features())


class Skipping(nn.Module):
    """A layer that is skipped in all but some mini-batches; the layer before it never is."""

    def __init__(self, shown, size):
        super().__init__()
        self.first, self.second, self.shown, self.count = mlp()[:2], nn.BatchNorm1d(8), shown, 0
        self.size = size

    def forward(self, x):
        x, self.count = self.first(x), self.count + 1
        if self.training and self.count not in self.shown:
            return x
        return x + self.second(x[: self.size] if self.training else x).mean()


def test_layers_that_are_skipped_at_random_are_not_compared():
    model = Skipping({2}, 16)
    trained(Skipping({1, 2, 3, 4}, 16).first, features())
    for norm in (model.first[1], model.second):
        norm.running_var *= 100
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    recalibrate(model.first, features())
    assert found(rule, model, features()) == []
    model.shown = {1, 2, 3, 4}
    assert found(rule, model, features())[0][0] == ("second",)


def test_the_limit_of_chance_is_that_of_the_examples_of_the_norm(monkeypatch):
    monkeypatch.setattr(rule, "SOME_OUTPUTS", 10.0)
    model = Skipping({1, 2, 3, 4}, 4)
    for norm in (model.first[1], model.second):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    recalibrate(model.first, features())
    norm = model.second
    norm.running_mean += 0.4
    [x] = [torch.cat([model.first(x[:4]) for x, _ in features()]).detach()]
    norm.running_var.copy_(x.var(0))
    norm.running_mean.copy_(x.mean(0) + 0.42 * x.std(0))
    for size, is_found in ((4, False), (16, True)):
        norm_size = model.size = size
        where = [name for names, _ in found(rule, model, features()) for name in names]
        assert ("second" in where) == is_found, norm_size
