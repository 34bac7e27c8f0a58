import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp, trained
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bnlib.doctor.rules import several_streams as rule
from bnlib.nn import SplitBatchNorm1d, use_stream
from bnlib.surgery import freeze


class Twins(nn.Module):
    """A tower for two kinds of data, one of them moved."""

    def __init__(self, tower, by=4.0, *, joint=False, split=False):
        super().__init__()
        self.tower, self.by, self.joint, self.split = tower, by, joint, split

    def forward(self, x):
        if self.joint:
            one, other = self.tower(torch.cat([x, x + self.by])).chunk(2)
        elif self.split:
            with use_stream(self, 0):
                one = self.tower(x)
            with use_stream(self, 1):
                other = self.tower(x + self.by)
        else:
            one, other = self.tower(x), self.tower(x + self.by)
        return one - other


class Pyramid(nn.Module):
    """One norm for two levels, within a residual sum."""

    def __init__(self):
        super().__init__()
        self.conv, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        y = F.relu(self.conv2(x)) * 9
        return (x + self.norm(x)).mean() + self.norm(y).mean()


def test_towers_and_pyramids_are_found():
    [(where, evidence)] = found(rule, Twins(mlp()), features())
    assert where[0] == "tower.1"
    assert evidence["calls"] == 2
    assert found(rule, Pyramid(), images())[0][0] == ("norm",)


def test_the_gap_is_that_of_theory():
    """Two streams of variance 1 at a distance d: d / 2 of sqrt(1 + d^2 / 4)."""
    model = Twins(nn.Sequential(nn.BatchNorm1d(5)), 2.0)
    [(_, evidence)] = found(rule, model, features(4, 4000))
    assert evidence["gap"] == pytest.approx(((1**2 + (1 - 2**0.5) ** 2) / 2) ** 0.5, rel=0.05)


def split(channels):
    return SplitBatchNorm1d(channels, streams=2)


def test_the_cures_work():
    for model in (Twins(mlp(), joint=True), Twins(mlp(norm=split), split=True)):
        assert found(rule, model, features()) == []


def test_like_streams_and_single_calls_are_healthy():
    for model in (Twins(mlp(), 0.1), Twins(Residual(), 0.0)):
        data = images() if isinstance(model.tower, Residual) else features()
        assert found(rule, model, data) == []
    assert found(rule, trained(mlp(), features()), features()) == []


def test_few_values_are_no_evidence():
    class Halves(nn.Sequential):
        def forward(self, x):
            return torch.cat([super(Halves, self).forward(part) for part in x.chunk(4)])

    assert found(rule, Halves(*mlp()), features(4, 16)) == []


def test_frozen_norms_are_healthy():
    model = Twins(trained(mlp(), features()))
    freeze(model)
    assert found(rule, model, features()) == []


def test_thresholds(monkeypatch):
    model = Twins(mlp())
    gap = found(rule, model, features())[0][1]["gap"]
    for name, value in (("GAP", gap * 1.01), ("LEAST", 17)):
        with monkeypatch.context() as patch:
            patch.setattr(rule, name, value)
            assert found(rule, model, features()) == []
    monkeypatch.setattr(rule, "GAP", 1e-3)
    assert found(rule, Twins(mlp(), 0.1), features())
