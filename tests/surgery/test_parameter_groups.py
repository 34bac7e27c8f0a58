"""Each parameter in one group; norms and biases without weight decay."""

import pytest
import torch
from surgery.architectures import ALL_SHAPES, build
from torch import nn
from torch.nn.utils import parametrizations

from bnlib import nn as bnn
from bnlib.surgery import parameter_groups


def split(model, **options):
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 0.1, **options)
    found = {
        group["weight_decay"]: {names[parameter] for parameter in group["params"]}
        for group in groups
    }
    return found.get(0.1, set()), found.get(0.0, set())


@pytest.mark.parametrize("architecture", ALL_SHAPES)
def test_partition(architecture):
    model = build(architecture)
    decayed, exempt = split(model)
    assert sorted(decayed | exempt) == sorted(name for name, _ in model.named_parameters())
    assert not decayed & exempt
    # in these architectures the weights of norms and the biases are the vectors
    assert exempt == {name for name, p in model.named_parameters() if p.dim() == 1}


def test_other_layers():
    model = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(4, 2),
            "lstm": nn.LSTM(2, 3),
            "norm": nn.LayerNorm((2, 3)),
            "rms": nn.RMSNorm(3),
            "group": nn.GroupNorm(1, 2),
            "instance": nn.InstanceNorm1d(2, affine=True),
            "weight_norm": parametrizations.weight_norm(nn.Linear(2, 2)),
            "weight_norm_conv": parametrizations.weight_norm(nn.Conv2d(2, 3, 3)),
            "weight_norm_in_one": parametrizations.weight_norm(nn.Linear(2, 2), dim=None),
            "bias_norm": parametrizations.weight_norm(nn.Linear(2, 2), "bias", dim=None),
            "embedding": nn.Embedding(3, 2),
        }
    )
    decayed, _ = split(model)
    prefix = "parametrizations.weight.original"
    assert decayed == {
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        f"weight_norm.{prefix}0",
        f"weight_norm.{prefix}1",
        f"weight_norm_conv.{prefix}0",
        f"weight_norm_conv.{prefix}1",
        f"weight_norm_in_one.{prefix}1",
        "bias_norm.weight",
        "embedding.weight",
    }


def test_shared_parameters_occur_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    decayed, exempt = split(model)
    assert (len(decayed), len(exempt)) == (1, 4)


class Gain(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(shape))


@pytest.mark.parametrize("norms", [Gain, [Gain], (Gain,), {nn.ReLU, Gain}])
def test_norms_of_ones_own(norms):
    model = nn.Sequential(nn.Linear(2, 2), Gain((2, 1, 1)))
    assert split(model)[0] == {"0.weight", "1.gamma"}
    assert split(model, norms=norms)[0] == {"0.weight"}


def test_vectors_and_scalars_are_exempt():
    model = nn.ModuleList([nn.Linear(2, 1), Gain(2), Gain(()), nn.PReLU(3)])
    assert split(model)[0] == {"0.weight"}


def test_family():
    model = nn.ModuleDict(
        {
            "conditional": bnn.ConditionalBatchNorm2d(4, num_conditions=3),
            "decorrelated": bnn.DecorrelatedBatchNorm1d(4),
            "split": bnn.SplitBatchNorm1d(4),
            "scale": bnn.ScaleNorm((2, 3)),
            "dyt": bnn.DyT((2, 3)),
            "layer": bnn.LayerNorm((2, 3)),
            "conv": bnn.WSConv2d(2, 3, 3),
        }
    )
    assert split(model)[0] == {"conv.weight"}


def test_optimizer_decays_only_weights():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(parameter_groups(model, 0.5), lr=1)
    before = [p.detach().clone() for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    factors = [0.5, 1, 1, 1]
    for now, old, factor in zip(model.parameters(), before, factors, strict=True):
        torch.testing.assert_close(now.data, factor * old)


def test_refused():
    with pytest.raises(ValueError, match="weight_decay must be a number, 0 or more, not -1"):
        parameter_groups(nn.Linear(2, 2), -1)
    with pytest.raises(ValueError, match="weight_decay must be a number, 0 or more, not '1e-4'"):
        parameter_groups(nn.Linear(2, 2), "1e-4")
    for norms in (3, "LayerNorm", [nn.LayerNorm(2)]):
        with pytest.raises(TypeError, match="norms must be a class of modules, or several, not"):
            parameter_groups(nn.Linear(2, 2), 0.1, norms=norms)
    with pytest.raises(ValueError, match="no parameters"):
        parameter_groups(nn.ReLU(), 0.1)
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        parameter_groups([nn.Linear(2, 2)], 0.1)
