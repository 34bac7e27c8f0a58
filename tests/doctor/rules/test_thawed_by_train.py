import pytest
import torch
from doctor.planted import Residual, features, found, images, loss, mlp, watched
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


def test_a_new_head_on_a_model_in_eval_mode_is_healthy():
    model = nn.Sequential(mlp().eval(), nn.Linear(4, 4))

    def step(batch):
        loss(model.train()(batch[0]), batch).backward()

    assert found(rule, model, record=watched(model, features(2), step)) == []
