"""Biases right before batch norms go, and no output changes."""

import copy

import pytest
import torch
from surgery.architectures import MLP, SHAPES, EarlyExit, ResNet, UNet, build, example
from torch import nn

from bnlib.surgery import remove_redundant_bias

REMOVED = {"ResNet": 0, "MobileNet": 0, "UNet": 7, "MLP": 1, "VideoNet": 1, "Audio": 1}


@pytest.mark.parametrize("architecture", SHAPES)
@pytest.mark.parametrize("train", [False, True])
def test_outputs_stay(architecture, train):
    model, x = build(architecture).train(train), example(architecture, 5)
    before = copy.deepcopy(model.state_dict())
    lean, removed = remove_redundant_bias(model, x)
    assert len(removed) == REMOVED[architecture.__name__]
    assert all(lean.get_submodule(name).bias is None for name in removed)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [m.training for m in lean.modules()] == [m.training for m in model.modules()]
    for mode in (False, True, False):  # the running statistics go on in step
        for each in (model, lean):
            each.train(mode)
            for module in each.modules():
                if isinstance(module, nn.Dropout):
                    module.eval()
        torch.testing.assert_close(lean(x), model(x), rtol=1e-9, atol=1e-9)


def test_untraceable_model():
    model, x = build(EarlyExit), example(EarlyExit)
    lean, removed = remove_redundant_bias(model, x)
    assert removed == {}  # the only bias is that of a layer which is called twice
    assert lean.repeated[0].bias is not None


def test_bias_that_is_used_elsewhere_stays():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    assert remove_redundant_bias(Sum(), torch.randn(2, 2, 3, 3))[1] == {}


def test_bias_before_a_dropout_stays():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.BatchNorm1d(4))
    for mode in (False, True):
        assert remove_redundant_bias(model.train(mode))[1] == {}


def test_norm_without_statistics_needs_no_bias():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)).double()
    lean, removed = remove_redundant_bias(model)
    assert removed == {"0": "1"}
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(lean(x), model(x))


class Magnitude(nn.BatchNorm1d):
    def forward(self, input):
        return super().forward(input.abs())


class Rectified(nn.BatchNorm1d):
    def forward(self, input):
        return super().forward(input).relu()


def test_norm_that_does_more_keeps_the_bias_that_it_sees():
    model = nn.Sequential(
        *(nn.Linear(4, 4), Magnitude(4), nn.Linear(4, 4), nn.BatchNorm1d(4)),
        *(nn.Linear(4, 4), Rectified(4), nn.Linear(4, 4), nn.BatchNorm1d(4)),
    )
    model[7].register_forward_pre_hook(lambda module, args: None)  # it would see other values
    assert remove_redundant_bias(model)[1] == {"2": "3", "4": "5"}


def test_sequence_features_stay():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))  # axis 1 of (m, 4, 4) is no feature
    assert remove_redundant_bias(model, torch.randn(2, 4, 4))[1] == {}


def test_model_without_batch_norm_or_input():
    linear = nn.Linear(2, 2)
    lean, removed = remove_redundant_bias(linear)
    assert (removed, lean is linear) == ({}, False)
    with pytest.raises(ValueError, match="fails on the example inputs"):
        remove_redundant_bias(build(MLP), torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="more than the tolerance"):
        remove_redundant_bias(build(UNet, dtype=torch.float32), tolerance=1e-30)
    assert remove_redundant_bias(build(ResNet))[1] == {}
