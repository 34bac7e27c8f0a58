import pytest
import torch
from doctor.planted import Residual, checked, features, found, images, loss, mlp, watched
from torch import nn

from bnlib.doctor.rules import thawed_by_train as rule
from bnlib.surgery import freeze

CASES = [(mlp, features, ("1", "4")), (Residual, images, ("b", "d"))]


def epochs(model, data, names, *, again):
    """Put norms into eval mode once, or in each epoch, and train for two epochs."""
    model.train()

    def hold():
        for name in names:
            model.get_submodule(name).eval()

    def step(batch):
        if batch is data[3]:
            model.train()
            if again:
                hold()
        loss(model(batch[0]), batch).backward()

    hold()
    return watched(model, data, step)


@pytest.mark.parametrize(("make", "data", "names"), CASES)
def test_the_second_epoch_is_found(make, data, names):
    model = make()
    record = epochs(model, data(5), names, again=False)
    assert model.get_submodule(names[0]).num_batches_tracked == 2
    assert found(rule, model, record=record) == [(names, {"norms": 2, "calls": 2})]
    model = make()
    assert found(rule, model, record=epochs(model, data(5), names, again=True)) == []
    freeze(model)
    assert found(rule, model, record=epochs(model, data(5), (), again=False)) == []


def test_eval_before_the_loop_is_found_though_no_pass_was_made():
    model = mlp()
    model[1].eval()

    def step(batch):
        loss(model.train()(batch[0]), batch).backward()

    record = watched(model, features(2), step)
    assert found(rule, model, record=record) == [(("1",), {"norms": 1, "calls": 2})]


def test_an_evaluation_between_epochs_is_healthy():
    model = mlp()

    def step(batch):
        model.eval()
        with torch.no_grad():
            model(batch[0])
        loss(model.train()(batch[0]), batch).backward()

    assert found(rule, model, record=watched(model.eval(), features(3), step)) == []


def test_samples_of_a_part_in_eval_mode_are_healthy():
    """The container stays in train mode, as nobody calls its eval()."""
    model = nn.ModuleDict({"generator": mlp(), "other": nn.Linear(4, 1)})

    def step(batch):
        model["generator"].eval()
        with torch.no_grad():
            model["generator"](batch[0])
        model["generator"].train()
        model["other"](model["generator"](batch[0])).mean().backward()

    assert model.training
    assert found(rule, model, record=watched(model, features(3), step)) == []


def test_a_new_wrapper_of_a_model_in_eval_mode_is_healthy():
    """A loaded model comes in eval mode, and the class around it begins in train mode."""
    wrapper = nn.Sequential(mlp().eval())
    assert wrapper.training

    def step(batch):
        loss(wrapper.train()(batch[0]), batch).backward()

    assert found(rule, wrapper, record=watched(wrapper, features(2), step)) == []


def test_a_backbone_in_eval_mode_before_the_loop_is_good_to_know():
    model = nn.Sequential(mlp().eval(), nn.Linear(4, 4))

    def step(batch):
        loss(model.train()(batch[0]), batch).backward()

    [one] = checked(rule, model, record=watched(model, features(2), step))
    assert (one.severity, one.where) == ("note", ("0.1", "0.4"))
    assert dict(one.evidence) == {"norms": 2, "calls": 2}


def test_norms_alone_and_with_their_part_are_told_apart():
    model = nn.Sequential(mlp(), nn.BatchNorm1d(4), mlp(norm=nn.BatchNorm1d)[:2])
    model[2][0] = nn.Linear(4, 8)
    model[0].eval()
    model[1].eval()

    def step(batch):
        loss(model.train()(batch[0]), batch).backward()

    data = [(x, y) for x, y in features(2)]
    hits = checked(rule, model, record=watched(model, data, step))
    assert [(each.severity, each.where) for each in hits] == [
        (None, ("1",)),
        ("note", ("0.1", "0.4")),
    ]


def to_and_fro(steps, per_return=1):
    """Attack a part of a model in eval mode, in each step or before some of them."""
    model, seen = nn.Sequential(mlp(), nn.Linear(4, 4)), []

    def step(batch):
        seen.append(batch)
        x = batch[0].clone().requires_grad_()
        if len(seen) % per_return == 0:
            model[0].eval()
            (gradient,) = torch.autograd.grad(loss(model(x), batch), x)
            model[0].train()
            x = (x + 0.1 * gradient.sign()).detach()
        loss(model(x), batch).backward()

    return model, watched(model, features(steps), step)


def test_an_attack_on_a_part_in_eval_mode_is_healthy():
    model, record = to_and_fro(4)
    assert record.norms["0.1"].thawed == record.norms["0.1"].returns == 4
    assert found(rule, model, record=record) == []


def test_gradual_unfreezing_is_healthy_and_half_of_it_is_not():
    for thaws_parameters in (True, False):
        model = nn.Sequential(mlp(), nn.Linear(4, 4))
        model[0].eval().requires_grad_(False)
        data = features(4)

        def step(batch, model=model, data=data, learns=thaws_parameters):
            if batch is data[2]:
                model[0].train().requires_grad_(learns)
            loss(model(batch[0]), batch).backward()

        hits = found(rule, model, record=watched(model, data, step))
        assert (hits == []) == thaws_parameters


def test_threshold(monkeypatch):
    model, record = to_and_fro(6, 2)
    assert record.norms["0.1"].returns == 3
    assert found(rule, model, record=record) == []
    monkeypatch.setattr(rule, "OFTEN", 0.7)
    assert found(rule, model, record=record)
