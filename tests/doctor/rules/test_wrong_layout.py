import pytest
import torch
from doctor.planted import Residual, checked, features, found, images, mlp, trained
from random_inputs import SEED
from torch import nn

from bnlib.doctor.case import Case
from bnlib.doctor.rules import wrong_layout as rule

OFFSETS = 4 * torch.randn(6, generator=torch.Generator().manual_seed(1))


def rows(count=2, size=16, length=6):
    """Features with means of their own, (n, l, c)."""
    generator = torch.Generator().manual_seed(SEED)
    return [torch.randn(size, length, 6, generator=generator) + OFFSETS for _ in range(count)]


class Features(nn.Module):
    """A norm of sequences (n, l, c), in a residual sum; right or wrong."""

    def __init__(self, turned, channels=6):
        super().__init__()
        self.linear, self.norm, self.turned = nn.Linear(6, 6), nn.BatchNorm1d(channels), turned

    def forward(self, x):
        x = x + 0.1 * self.linear(x)
        return self.norm(x.transpose(1, 2)).transpose(1, 2) if self.turned else self.norm(x)


class ChannelsLast(nn.Sequential):
    def forward(self, x):
        return super().forward(x[:, :, None].expand(-1, -1, 4, -1))


@pytest.mark.parametrize(
    ("model", "length"),
    [(Features(False), 6), (Features(False, 9), 9), (ChannelsLast(nn.BatchNorm2d(6)), 6)],
)
def test_channels_at_the_end_are_found(model, length):
    [(where, evidence)] = found(rule, model, rows(length=length))
    assert where in {("norm",), ("0",)}
    mean = OFFSETS.double()
    share = mean.var(correction=0) / (mean.var(correction=0) + 1)
    assert evidence["last_axis"] == pytest.approx(float(share), abs=0.1)
    assert evidence["other_axes"] < 0.05


def test_a_transpose_is_the_cure():
    assert found(rule, Features(True), rows()) == []
    moved = [x[:, None].expand(-1, 6, -1, -1).movedim(-1, 1) for x in rows()]
    assert found(rule, nn.Sequential(nn.BatchNorm2d(6)), moved) == []


@pytest.mark.parametrize(("make", "data"), [(mlp, features), (Residual, images)])
def test_new_and_trained_models_are_healthy(make, data):
    assert found(rule, make(), data()) == found(rule, trained(make(), data()), data()) == []


def test_images_with_the_object_in_the_middle_are_healthy():
    """Positions explain some of the values, and so do channels."""
    window = torch.hann_window(8) * torch.hann_window(8)[:, None]
    data = [(torch.rand(16, 3, 8, 8) * window, None) for _ in range(2)]
    [call, _] = Case(nn.BatchNorm2d(3), data).forward(training=True).calls[""]
    assert rule._explained(call)[0] > rule.LAST
    assert found(rule, nn.BatchNorm2d(3), data) == []
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3))
    model.append(nn.BatchNorm2d(6))
    assert found(rule, model, data) == []


def test_constant_inputs_and_single_channels_say_nothing():
    assert found(rule, nn.BatchNorm1d(6), [torch.ones(4, 6, 6)] * 2) == []
    assert found(rule, nn.BatchNorm1d(1), [x[:, :1] for x in rows()]) == []


def test_thresholds(monkeypatch):
    norm = nn.BatchNorm1d(6)
    [(_, evidence)] = found(rule, norm, rows())
    last, others = evidence["last_axis"], evidence["other_axes"]
    for name, value in (("LAST", last * 1.01), ("TIMES", last / others * 1.01)):
        with monkeypatch.context() as patch:
            patch.setattr(rule, name, value)
            assert found(rule, norm, rows()) == []


def test_signals_cut_around_an_event_are_a_note():
    """No layer has made features on the last axis: positions explain it."""
    data = [x.transpose(1, 2)[:, :3] + 3 * torch.hann_window(9) for x in rows(length=9)]
    data = [x - x.mean(2, keepdim=True) for x in data]
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Conv1d(3, 4, 3))
    assert [each.severity for each in checked(rule, model, data)] == ["note"]
    assert [each.severity for each in checked(rule, Features(False), rows())] == [None]
