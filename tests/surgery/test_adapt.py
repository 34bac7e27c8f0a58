"""Target statistics in a copy, and statistics of the mini-batch at prediction time."""

import copy

import pytest
import torch
from surgery.architectures import MLP, SHAPES, build, example
from torch import nn

from bnlib import nn as bnn
from bnlib.surgery import adapt, freeze, recalibrate, use_batch_statistics


def same_state(model, other):
    states = [m.state_dict() for m in (model, other)]
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("architecture", SHAPES)
def test_adapted_copy_has_the_target_statistics(architecture):
    model, target = build(architecture), 3 + 2 * example(architecture, 7)
    before, expected = copy.deepcopy(model), copy.deepcopy(model)
    recalibrate(expected, target.split(4))
    adapted = adapt(model, target.split(4))
    assert same_state(model, before)
    assert same_state(adapted, expected)
    assert not adapted.training


def test_prior_weighs_as_many_examples():
    model = nn.Sequential(nn.BatchNorm2d(2)).double()
    nn.init.normal_(model[0].running_mean)
    source, target = model[0], 5 + torch.randn(6, 2, 3, 3, dtype=torch.float64)
    adapted = adapt(model, target.split(4), prior=2)[0]
    mean = (2 * source.running_mean + 6 * target.mean((0, 2, 3))) / 8
    var = (2 * source.running_var + 6 * target.var((0, 2, 3))) / 8
    torch.testing.assert_close(adapted.running_mean, mean)
    torch.testing.assert_close(adapted.running_var, var)


@pytest.mark.parametrize("prior", [-1, float("nan"), float("inf"), "1", True])
def test_bad_prior(prior):
    with pytest.raises(ValueError, match="prior must be a number of examples, 0 or more"):
        adapt(nn.BatchNorm1d(2), [torch.eye(2)], prior=prior)


def test_failed_adaptation_leaves_the_model():
    model = build(MLP)
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match="empty"):
        adapt(model, [])
    assert same_state(model, before)


@pytest.mark.parametrize("architecture", SHAPES)
def test_batch_statistics_in_eval_mode_are_those_of_train_mode(architecture):
    model, x = build(architecture), example(architecture, 6)
    before = copy.deepcopy(model)
    result = use_batch_statistics(model)
    train = copy.deepcopy(model)
    for module in train.modules():
        module.training = isinstance(module, nn.modules.batchnorm._BatchNorm)
    torch.testing.assert_close(result(x), train(x))
    assert same_state(model, before)


def test_frozen_layers_keep_their_statistics():
    model = build(MLP)
    freeze(model, ["1"])
    result = use_batch_statistics(model)
    assert result[1].running_mean is not None
    assert result[5].running_mean is None
    assert use_batch_statistics(model, ["1"])[1].running_mean is None


def test_decorrelated_and_masked():
    source = nn.Sequential(bnn.DecorrelatedBatchNorm1d(4, group_size=2)).double()
    target = torch.randn(6, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64)
    adapted = adapt(source, [target], prior=6)[0]
    expected = (torch.eye(2, dtype=torch.float64) + target[:, 2:].T.cov()) / 2
    torch.testing.assert_close(adapted.running_cov[1], expected)
    masked = nn.Sequential(bnn.MaskedBatchNorm1d(2)).double()
    x, mask = torch.randn(8, 2, dtype=torch.float64), torch.arange(8) < 5
    adapted = adapt(masked, [x], forward=lambda model, batch: model[0](batch, mask), prior=5)[0]
    torch.testing.assert_close(adapted.running_mean, x[:5].mean(0) / 2)


def test_batch_statistics_of_the_family():
    x = torch.randn(6, 4) @ torch.randn(4, 4)
    for norm in (
        bnn.DecorrelatedBatchNorm1d(4, group_size=2),
        bnn.GhostBatchNorm1d(4, ghost_size=3),
    ):
        torch.testing.assert_close(use_batch_statistics(norm.eval())(x), norm.train()(x))


def test_a_tensor_is_no_loader():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(TypeError, match=r"got Tensor; for a single batch x, write \[x\]"):
        adapt(model, torch.randn(6, 4))
