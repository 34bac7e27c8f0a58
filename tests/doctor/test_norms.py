"""Norms in one form, whatever class they are of."""

import pytest
import torch
from doctor.planted import Residual, mlp
from surgery.batch_norm_act import BatchNormAct2d, Frozen
from torch import nn

from bnlib import nn as bnn
from bnlib.doctor.norms import (
    LEFT,
    arrived,
    is_initial,
    left_of_initial,
    norms_of,
    norms_of_state,
    values_per_mean,
)
from bnlib.surgery import freeze


def only(module):
    [norm] = norms_of(module).values()
    return norm


def test_names_families_and_modes():
    frozen = nn.BatchNorm2d(3)
    freeze(frozen)
    model = nn.ModuleDict(
        {
            "batch": nn.BatchNorm2d(3),
            "still": nn.BatchNorm2d(3).eval(),
            "ours": bnn.GhostBatchNorm1d(4, ghost_size=2),
            "act": BatchNormAct2d(3),
            "cov": bnn.DecorrelatedBatchNorm1d(4, group_size=2),
            "instance": nn.InstanceNorm2d(3),
            "frozen": frozen,
            "foreign": Frozen(3),
            "layer": nn.LayerNorm(3),
            "linear": nn.Linear(3, 3),
        }
    )
    found = norms_of(model)
    assert {name: (norm.family, norm.mode) for name, norm in found.items()} == {
        "batch": ("batch", "train"),
        "still": ("batch", "eval"),
        "ours": ("batch", "train"),
        "act": ("batch", "train"),
        "cov": ("batch", "train"),
        "instance": ("instance", "train"),
        "frozen": ("batch", "frozen"),
        "foreign": ("frozen", "frozen"),
    }
    uses = [name for name, norm in found.items() if norm.uses_batch]
    assert uses == ["batch", "ours", "act", "cov", "instance"]
    assert only(nn.BatchNorm1d(3, track_running_stats=False).eval()).uses_batch


def test_the_root_and_shared_modules_have_one_name():
    assert list(norms_of(nn.BatchNorm1d(3))) == [""]
    norm = nn.BatchNorm1d(3)
    assert list(norms_of(nn.ModuleList([norm, norm]))) == ["0"]


def test_tensors_are_those_of_the_model():
    norm = nn.BatchNorm1d(3)
    found = only(norm)
    assert found.mean is norm.running_mean
    assert found.var is norm.running_var
    assert (found.updates, found.eps, found.momentum, found.kind) == (0, 1e-5, 0.1, "BatchNorm1d")
    lazy = only(nn.LazyBatchNorm1d())
    assert lazy.mean is None
    parametrized = nn.utils.parametrizations.weight_norm(nn.BatchNorm1d(3), dim=None)
    torch.testing.assert_close(only(parametrized).tensors["weight"], parametrized.weight.detach())


def test_the_variance_of_a_covariance_is_its_diagonal():
    norm = bnn.DecorrelatedBatchNorm1d(4, group_size=2)
    norm.running_cov.copy_(torch.arange(8.0).view(2, 2, 2))
    assert only(norm).var.tolist() == [0.0, 3.0, 4.0, 7.0]


@pytest.mark.parametrize("make", [mlp, Residual])
def test_a_state_dict_holds_the_same_numbers(make):
    model = make()
    ours, theirs = norms_of(model), norms_of_state(model.state_dict())
    assert ours.keys() == theirs.keys()
    for name, norm in ours.items():
        assert theirs[name].tensors.keys() == norm.tensors.keys()
        assert torch.equal(theirs[name].mean, norm.mean)
    assert (theirs[name].mode, theirs[name].uses_batch, theirs[name].frozen) == ("", False, False)
    with pytest.raises(AttributeError, match=f"{name} is from a state dict"):
        theirs[name].module  # noqa: B018
    assert list(norms_of_state(nn.BatchNorm1d(2).state_dict())) == [""]


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.0, None])
def test_what_is_left_of_the_initial_values(momentum):
    """A channel of zeros: the variance is what is left of its initial 1."""
    norm = nn.BatchNorm1d(1, momentum=momentum)
    assert (left_of_initial(only(norm)), arrived(only(norm))) == (1.0, False)
    for _ in range(3):
        norm(torch.zeros(4, 1))
    if momentum == 0.0:
        assert left_of_initial(only(norm)) == 0.0
        assert not arrived(only(norm))  # it is initial
    else:
        assert left_of_initial(only(norm)) == pytest.approx(float(norm.running_var))
        assert arrived(only(norm)) == (momentum is None)
    norm.num_batches_tracked.fill_(1000)
    norm.running_mean.fill_(3.0)
    assert arrived(only(norm))


def test_loaded_statistics_without_a_count_have_arrived():
    norm = nn.BatchNorm1d(2)
    assert is_initial(only(norm))
    norm.running_mean.fill_(2.0)
    assert not is_initial(only(norm))
    assert left_of_initial(only(norm)) == 0.0
    assert arrived(only(norm))
    assert not is_initial(only(nn.BatchNorm1d(2, track_running_stats=False)))


@pytest.mark.parametrize("updates", range(20, 40))
def test_arrived_at_a_twentieth(updates):
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(2.0)
    norm.num_batches_tracked.fill_(updates)
    assert arrived(only(norm)) == (0.9**updates <= LEFT)


def test_what_is_left_of_one_hides_a_small_variance():
    """After 56 updates 0.0027 of the 1 is left, many times a variance of 0.0001."""
    norm = nn.BatchNorm1d(3)
    for _ in range(56):
        norm(0.01 * torch.randn(64, 3))
    assert norm.running_var.max() > 0.002
    assert not arrived(only(norm))
    for _ in range(100):
        norm(0.01 * torch.randn(64, 3))
    assert arrived(only(norm))


VALUES = [
    (nn.BatchNorm1d(3), (8, 3), 8),
    (nn.BatchNorm1d(3), (8, 3, 5), 40),
    (nn.BatchNorm2d(3), (2, 3, 4, 5), 40),
    (nn.BatchNorm2d(3), (1, 3, 1, 1), 1),
    (nn.BatchNorm1d(3), (0, 3), 0),
    (nn.InstanceNorm1d(3), (8, 3, 5), 5),
    (nn.InstanceNorm1d(3), (3, 5), 5),
    (nn.InstanceNorm2d(3), (8, 3, 4, 5), 20),
    (bnn.GhostBatchNorm1d(3, ghost_size=4), (8, 3), 4),
    (bnn.GhostBatchNorm1d(3, ghost_size=4), (3, 3), 3),
    (bnn.GhostBatchNorm2d(3, ghost_size=4), (8, 3, 2, 2), 16),
]


@pytest.mark.parametrize(("norm", "shape", "values"), VALUES)
def test_values_per_mean(norm, shape, values):
    assert values_per_mean(norm, torch.empty(shape)) == values
    assert values_per_mean(norm, torch.empty(shape, device="meta")) == values


def test_a_mask_counts_what_it_keeps():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert values_per_mean(bnn.MaskedBatchNorm1d(2), torch.empty(2, 2, 3), mask) == 3
