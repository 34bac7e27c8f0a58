import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp
from torch import nn

from bnlib.doctor.rules import tracking_flag as rule
from bnlib.nn import FrozenBatchNorm1d, GhostBatchNorm1d
from bnlib.surgery import freeze, replace, to, use_batch_statistics

CASES = [(mlp, features, "4"), (Residual, images, "d")]


@pytest.mark.parametrize(("make", "data", "name"), CASES)
def test_a_flag_set_afterwards_is_found_and_its_cure_works(make, data, name):
    model = make()
    norm = model.get_submodule(name)
    norm.track_running_stats = False
    before = norm.running_mean.clone()
    model(data()[0][0])
    assert torch.equal(norm.running_mean, before)  # as the message says
    assert found(rule, model) == [((name,), {"norms": 1, "of": 2})]
    norm.track_running_stats = True
    assert found(rule, model) == []


def test_norms_without_statistics_are_found_in_any_mode():
    model = mlp(norm=lambda c: nn.BatchNorm1d(c, track_running_stats=False))
    expected = [(("1", "4"), {"norms": 2, "of": 2})]
    assert found(rule, model) == found(rule, model.eval()) == expected
    ghosts = nn.Sequential(GhostBatchNorm1d(5, ghost_size=4, track_running_stats=False))
    assert found(rule, ghosts) == [(("0",), {"norms": 1, "of": 1})]


def test_what_keeps_statistics_or_never_has_any_is_healthy():
    frozen = mlp()
    freeze(frozen)
    instance = nn.Sequential(nn.InstanceNorm1d(4))
    for model in (mlp(), Residual(), frozen, replace(mlp(), to(FrozenBatchNorm1d)), instance):
        assert found(rule, model) == []


def test_statistics_of_the_batch_on_purpose_are_found_too():
    model = mlp().eval()
    assert found(rule, use_batch_statistics(model)) == [(("1", "4"), {"norms": 2, "of": 2})]
    assert found(rule, model) == []
