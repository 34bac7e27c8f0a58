import pytest
import torch
from doctor.planted import Residual, features, found, images, loss, mlp, watched
from torch import nn

from bnlib.doctor import watch
from bnlib.doctor.case import NotPossibleError
from bnlib.doctor.rules import train_forgotten as rule

CASES = [(mlp, features, ("1", "4")), (Residual, images, ("b", "d"))]


def epochs(model, data, optimizer, *, count=3, forgets=True, call=None):
    """Train and evaluate in turn; without `forgets` each epoch begins with ``train()``."""
    model.train()
    with watch(model, optimizer) as record:
        for _ in range(count):
            model.train(model.training or not forgets)
            for batch in data:
                optimizer.zero_grad()
                loss((call or model)(batch[0]), batch).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for batch in data[:2]:
                    (call or model)(batch[0])
    return record


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


@pytest.mark.parametrize(("make", "data", "names"), CASES)
def test_two_epochs_in_eval_mode_are_found_and_train_is_the_cure(make, data, names):
    model = make()
    record = epochs(model, data(5), sgd(model))
    assert record.patterns == {"fbs": 5, "eeebs": 2, "ebs": 8}
    assert found(rule, model, record=record) == [(names, {"steps": 10, "in_a_row": 10})]
    model = make()
    record = epochs(model, data(5), sgd(model), forgets=False)
    assert found(rule, model, record=record) == []


def test_a_model_whose_part_the_loop_calls_is_found():
    model = nn.ModuleDict({"net": mlp(), "other": nn.Linear(2, 2)})
    record = epochs(model, features(5), sgd(model), call=model["net"])
    assert found(rule, model, record=record) == [
        (("net.1", "net.4"), {"steps": 10, "in_a_row": 10})
    ]


def test_eval_mode_from_the_start_and_norms_in_eval_mode_are_healthy():
    model = mlp().eval()
    assert found(rule, model, record=watched(model, features(12))) == []
    model = mlp()

    def step(batch):
        if model[0].weight.grad is not None:  # from the second step on
            model[1].eval()
            model[4].eval()
        loss(model(batch[0]), batch).backward()

    assert found(rule, model, record=watched(model, features(16), step)) == []


def test_a_pass_in_eval_mode_in_each_step_is_healthy():
    """An attack in eval mode, and the loss in train mode."""
    model = mlp()

    def step(batch):
        model.eval()
        x = batch[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(model(x), batch), x)
        model.train()
        loss(model(batch[0] + 0.1 * gradient.sign()), batch).backward()

    assert found(rule, model, record=watched(model, features(16), step)) == []


def test_without_steps_nothing_is_said():
    model = mlp()
    with watch(model) as record:
        model(features()[0][0])
    with pytest.raises(NotPossibleError):
        found(rule, model, record=record)


def turns(modes):
    """Return the record of steps in these modes, True for train mode."""
    model, left = mlp(), iter(modes)

    def step(batch):
        loss(model.train(next(left))(batch[0]), batch).backward()

    return model, watched(model, features(len(modes)), step)


@pytest.mark.parametrize("modes", [[True, False] * 8, [True, *[False] * 5] * 3])
def test_steps_in_turn_are_healthy(modes):
    model, record = turns(modes)
    assert record.in_eval_mode >= 8
    assert found(rule, model, record=record) == []


def test_an_evaluation_in_the_middle_of_each_epoch_is_found():
    model, record = turns([*[True] * 10, *[False] * 10] * 2)
    assert found(rule, model, record=record) == [(("1", "4"), {"steps": 20, "in_a_row": 10})]


def test_threshold(monkeypatch):
    model, record = turns([True] * 4 + [False] * 9)
    assert found(rule, model, record=record) == []
    monkeypatch.setattr(rule, "IN_A_ROW", 9)
    assert found(rule, model, record=record) == [(("1", "4"), {"steps": 9, "in_a_row": 9})]
