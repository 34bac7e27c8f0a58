"""A frozen batch norm survives train(), copies and pickles, and can be thawed."""

import copy
import io
import pickle

import pytest
import torch
from surgery.architectures import MLP, ResNet, build, example
from surgery.batch_norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils import parametrize

from bnlib.surgery import fold, freeze, unfreeze


def copies(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return [
        model,
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(buffer, weights_only=False),
    ]


def test_frozen_statistics_survive_training():
    model, x = build(ResNet), example(ResNet, 4)
    names = freeze(model)
    assert len(names) == 7
    for other in copies(model):
        state = copy.deepcopy(other.state_dict())
        optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
        assert other.train().training
        other(x).sum().backward()
        optimizer.step()
        for name in names:
            assert not other.get_submodule(name).training
            for key, value in other.get_submodule(name).state_dict().items():
                assert torch.equal(value, state[f"{name}.{key}"])
        assert not torch.equal(other.head.weight, state["head.weight"])


def test_copies_are_frozen_on_their_own():
    for model in copies(build(MLP)):
        freeze(model)
        other = copy.deepcopy(model)
        unfreeze(other)
        assert other.train()[1].training
        assert not model.train()[1].training


def test_some_layers_and_only_the_statistics():
    model = build(MLP)
    assert freeze(model, ["1"], parameters=False) == ["1"]
    model.train()
    assert [model[1].training, model[5].training] == [False, True]
    assert model[1].weight.requires_grad


def test_unfreeze_gives_back_what_freeze_took():
    model = build(MLP)
    model[7].bias.requires_grad_(False)
    freeze(model)
    freeze(model)
    assert not any(p.requires_grad for p in (model[1].weight, model[7].weight))
    assert unfreeze(model) == ["1", "5", "7"]
    assert unfreeze(model) == []
    assert model[7].weight.requires_grad
    assert not model[7].bias.requires_grad
    assert all(model.train()[i].training for i in (1, 5, 7))


def test_frozen_model_can_be_folded():
    model = build(MLP)
    freeze(model)
    assert len(fold(model).report.folded) == 3


def test_refused():
    with pytest.raises(ValueError, match="0 has no running statistics"):
        freeze(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)))
    with pytest.raises(ValueError, match="no batch norm"):
        freeze(nn.Linear(2, 2))
    model = build(MLP)
    with pytest.raises(ValueError, match="are no batch norms"):
        freeze(model, ["1", "2"])
    with pytest.raises(TypeError, match="layers: expected a collection of names, got 1"):
        freeze(model, 1)
    assert model.train()[1].training


def test_names_may_come_one_by_one():
    model = build(MLP)
    assert freeze(model, (name for name in ("1", "5"))) == ["1", "5"]


def test_dropout_within_follows_the_mode():
    model = nn.Sequential(BatchNormAct2d(3, nn.ReLU, nn.Dropout)).eval()
    freeze(model)
    assert not model[0].drop.training
    model.train()
    assert (model[0].training, model[0].drop.training) == (False, True)
    model.eval()
    assert not model[0].drop.training
    state = copy.deepcopy(model[0].running_mean)
    model.train()(torch.randn(4, 3, 5, 5))
    assert torch.equal(model[0].running_mean, state)


def test_what_freezing_does_not_hold():
    model = build(MLP)
    freeze(model)
    model.requires_grad_(True)
    model.train()
    assert model[1].weight.requires_grad  # as the docstring says; the statistics stay
    assert not model[1].training


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


def test_parametrized_weights_are_frozen_and_back():
    model = build(MLP)
    parametrize.register_parametrization(model[1], "weight", Half())
    freeze(model, ["1"])
    assert not any(p.requires_grad for p in model[1].parameters())
    unfreeze(model)
    assert all(p.requires_grad for p in model[1].parameters())
    freeze(model, ["1"])
    parametrize.remove_parametrizations(model[1], "weight")
    assert unfreeze(model) == ["1"]
