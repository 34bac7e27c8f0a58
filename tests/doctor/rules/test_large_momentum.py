import pytest
from doctor.planted import Residual, found, mlp
from torch import nn

from bnlib.doctor.rules import large_momentum as rule
from bnlib.nn import FrozenBatchNorm2d
from bnlib.surgery import freeze, pause_statistics


@pytest.mark.parametrize(("make", "names"), [(mlp, ("1", "4")), (Residual, ("b", "d"))])
def test_momentum_of_keras_is_found(make, names):
    model = make()
    for name in names:
        model.get_submodule(name).momentum = 0.99
    assert found(rule, model) == [(names, {"momentum": 0.99})]


@pytest.mark.parametrize("momentum", [0.01, 0.1, 0.5, None])
def test_usual_momenta_are_healthy(momentum):
    assert found(rule, nn.BatchNorm2d(3, momentum=momentum)) == []


def test_norms_that_do_not_track_are_healthy():
    frozen = nn.Sequential(nn.BatchNorm1d(3, momentum=0.9))
    freeze(frozen)
    untracked = nn.BatchNorm1d(3, momentum=0.9, track_running_stats=False)
    flag = nn.BatchNorm1d(3, momentum=0.9)
    flag.track_running_stats = False
    for model in (frozen, untracked, flag, FrozenBatchNorm2d(3)):
        assert found(rule, model) == []
    paused = nn.Sequential(nn.BatchNorm1d(3, momentum=0.9))
    with pause_statistics(paused):
        assert found(rule, paused) == []
    assert found(rule, paused)


def test_threshold(monkeypatch):
    norm = nn.BatchNorm1d(3, momentum=0.6)
    assert found(rule, norm)
    monkeypatch.setattr(rule, "LARGEST", 0.7)
    assert found(rule, norm) == []
    monkeypatch.setattr(rule, "LARGEST", 0.05)
    assert found(rule, mlp())
