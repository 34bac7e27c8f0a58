import pytest
import torch
from doctor.planted import (
    Residual,
    features,
    found,
    images,
    in_turn_with_a_generator,
    loss,
    mlp,
    watched,
)
from torch import nn

from bnlib.doctor.rules import accumulated_gradients as rule
from bnlib.surgery import group_norm, replace


@pytest.mark.parametrize("parts", [2, 4])
def test_small_parts_are_found(parts):
    model = mlp()
    record = watched(model, features(8, 6), every=parts)
    assert found(rule, model, record=record) == [(("1", "4"), {"parts": parts, "values": 6})]


def test_positions_count_as_values():
    """Two images of 36 pixels are 72 values, a part of one pixel each are two."""
    model = Residual()
    assert found(rule, model, record=watched(model, images(4, 2), every=2)) == []
    record = watched(model, [(x[..., :2, :2], y) for x, y in images(4, 2)], every=2)
    assert found(rule, model, record=record) == [(("b", "d"), {"parts": 2, "values": 8})]


def test_plain_steps_and_large_parts_are_healthy():
    model = mlp()
    assert found(rule, model, record=watched(model, features(4, 6))) == []
    assert found(rule, model, record=watched(model, features(4, 32), every=2)) == []


def test_two_losses_of_one_pass_are_healthy():
    model = mlp()

    def step(batch):
        output = model(batch[0])
        loss(output, batch).backward(retain_graph=True)
        output.square().mean().backward()

    assert found(rule, model, record=watched(model, features(4, 6), step)) == []


def test_the_same_mini_batch_again_is_no_accumulation():
    model = mlp()

    def step(batch):
        for _ in range(2):
            loss(model(batch[0]), batch).backward()

    assert found(rule, model, record=watched(model, features(4, 6), step)) == []


def test_group_norms_are_the_cure():
    model = replace(Residual(), group_norm(2))
    record = watched(model, [(x[..., :2, :2], y) for x, y in images(4, 2)], every=2)
    assert found(rule, model, record=record) == []


def test_parameters_that_get_no_gradient_do_not_hide_the_backward_passes():
    model = mlp()
    model[0].weight.detach_()
    first = model[0].weight
    first.requires_grad_(False)
    record = watched(model, features(4, 6), every=2)
    assert record.patterns == {"fbfbs": 2}


def test_gradients_cleared_between_two_tasks_are_no_accumulation():
    model = mlp()

    def step(batch):
        for x in (batch[0], batch[0].flip(0)):
            model.zero_grad()
            loss(model(x), batch).backward()

    record = watched(model, features(4, 6), step)
    assert record.patterns == {"fbzfbs": 4}
    assert found(rule, model, record=record) == []


@pytest.mark.parametrize("stops_gradients", [True, False])
def test_a_discriminator_in_turn_with_its_generator_is_no_accumulation(stops_gradients):
    record, model = in_turn_with_a_generator(stops_gradients)
    assert found(rule, model, record=record) == []


def test_passes_without_gradients_and_in_eval_mode_hide_nothing():
    model = mlp()

    def step(batch):
        with torch.no_grad():
            model.eval()(batch[0])
        loss(model.train()(batch[0]), batch).backward()

    record = watched(model, features(8, 6), step, every=2)
    assert record.patterns == {"efbefbs": 4}
    assert found(rule, model, record=record)


def test_a_part_that_the_loop_calls_is_found():
    model = nn.ModuleDict({"net": mlp()})

    def step(batch):
        loss(model["net"](batch[0]), batch).backward()

    record = watched(model, features(8, 6), step, every=2)
    assert found(rule, model, record=record) == [(("net.1", "net.4"), {"parts": 2, "values": 6})]


def test_thresholds(monkeypatch):
    model = mlp()
    record = watched(model, features(8, 6), every=2)
    monkeypatch.setattr(rule, "FEW", 6)
    assert found(rule, model, record=record) == []
    monkeypatch.setattr(rule, "FEW", 7)
    assert found(rule, model, record=record)
    monkeypatch.setattr(rule, "SHARE", 1.1)
    assert found(rule, model, record=record) == []
