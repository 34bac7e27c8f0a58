import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp, trained
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from bnlib.doctor.rules import stale_average as rule
from bnlib.surgery import freeze, recalibrate

CASES = [(mlp, features, "module.1"), (Residual, images, "module.b")]


def shifted(data):
    return [(x + 3, y) for x, y in data]


def average_of(make, data, **options):
    """An average of two models; it takes the statistics of the second."""
    torch.manual_seed(0)
    models = [trained(make(), shifted(data())) for _ in range(2)]
    average = AveragedModel(models[0], **options)
    for model in models:
        average.update_parameters(model)
    return average


@pytest.mark.parametrize(("make", "data", "name"), CASES)
@pytest.mark.parametrize("cure", [recalibrate, lambda average, data: update_bn(data, average)])
def test_statistics_of_the_last_model_are_found_and_both_cures_work(make, data, name, cure):
    average, now = average_of(make, data), shifted(data(16))
    [(where, evidence)] = found(rule, average, now)
    assert name in where
    assert evidence["gap"] > rule.GAP
    assert evidence["examples"] == 256
    cure(average, now)
    assert found(rule, average, now) == []


@pytest.mark.parametrize("use_buffers", [True, False])
def test_an_average_of_like_models_is_healthy(use_buffers):
    model = trained(mlp(), features())
    average = AveragedModel(model, use_buffers=use_buffers)
    for _ in range(2):
        average.update_parameters(trained(model, features(), 4))
    assert found(rule, average, features()) == []


def test_models_and_averages_that_have_averaged_nothing_are_another_rule():
    model = trained(mlp(), features())
    for each in (model, AveragedModel(model)):
        assert found(rule, each, shifted(features())) == []


def test_frozen_norms_and_models_without_batch_norm_are_healthy():
    average = average_of(mlp, features)
    freeze(average)
    assert found(rule, average, shifted(features())) == []
    plain = average_of(lambda: mlp(norm=lambda c: nn.GroupNorm(2, c)), features)
    plain.module.append(nn.InstanceNorm1d(4))
    images_of = [torch.randn(8, 4, 6)]
    instance = AveragedModel(nn.InstanceNorm1d(4, track_running_stats=True))
    instance.update_parameters(instance.module)
    assert found(rule, instance, images_of) == []


@pytest.mark.parametrize("name", ["GAP", "NOISE"])
def test_thresholds(name, monkeypatch):
    average = average_of(mlp, features)
    gap = found(rule, average, shifted(features()))[0][1]["gap"]
    monkeypatch.setattr(rule, name, gap * (1.01 if name == "GAP" else 8.1))
    assert found(rule, average, shifted(features())) == []


def test_the_limit_of_chance_is_that_of_the_examples_of_the_norm():
    """A norm that sees two examples a mini-batch is off by chance; a skipped one is left out."""

    class Part(nn.Module):
        def __init__(self, count, every=1):
            super().__init__()
            self.first, self.second = nn.BatchNorm1d(5), nn.BatchNorm1d(5)
            self.head, self.count, self.every, self.shown = nn.Linear(5, 4), count, every, 0

        def forward(self, x):
            x, self.shown = self.first(x), self.shown + 1
            if self.training and self.shown % self.every:
                return self.head(x)
            seen = x[: self.count] if self.training else x
            return self.head(x) + self.second(seen).mean()

    for count, every, is_found in ((2, 1, False), (16, 1, True), (16, 2, False)):
        average = AveragedModel(Part(count, every))
        average.update_parameters(average.module)
        update_bn(features(), average)
        average.module.second.running_mean += 0.5
        average.module.second.running_var.fill_(1.0)
        average.module.shown = 0
        names = [name for names, _ in found(rule, average, features()) for name in names]
        assert ("module.second" in names) == is_found, (count, every)
