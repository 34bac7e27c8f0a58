import contextlib
import functools

import pytest
import torch
from doctor.planted import Residual, features, found, images, loss, mlp, watched
from torch import nn
from torch.utils.checkpoint import checkpoint

from bnlib.doctor.rules import updated_twice as rule
from bnlib.nn import FrozenBatchNorm1d
from bnlib.surgery import freeze, pause_statistics, replace, to

CASES = [(mlp, features, "1", "4"), (Residual, images, "b", "d")]


def checkpointed(model, **options):
    def step(batch):
        x = batch[0].requires_grad_()
        loss(checkpoint(model, x, **options), batch).backward()

    return step


def paused(model):
    return contextlib.nullcontext(), pause_statistics(model)


@pytest.mark.parametrize(("make", "data", "first", "second"), CASES)
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_is_found(make, data, first, second, reentrant):
    model = make()
    record = watched(model, data(3), checkpointed(model, use_reentrant=reentrant))
    assert model.get_submodule(first).num_batches_tracked == 6
    assert found(rule, model, record=record) == [((first, second), {"norms": 2, "calls": 3})]


@pytest.mark.parametrize(("make", "data", "first", "second"), CASES)
def test_pausing_the_repetition_is_the_cure(make, data, first, second):
    model = make()
    contexts = functools.partial(paused, model)
    step = checkpointed(model, use_reentrant=False, context_fn=contexts)
    record = watched(model, data(3), step)
    assert model.get_submodule(first).num_batches_tracked == 3
    assert found(rule, model, record=record) == []


def test_the_momentum_of_the_fix():
    """Two updates at 0.1 weigh 0.19."""
    norm, slow = nn.BatchNorm1d(1), nn.BatchNorm1d(1, momentum=1 - (1 - 0.1) ** 0.5)
    for _ in range(2):
        slow(torch.tensor([[0.0], [2.0]]))
        norm(torch.tensor([[0.0], [2.0]]))
    assert norm.running_mean.item() == pytest.approx(0.19)
    assert slow.running_mean.item() == pytest.approx(0.1)


def test_frozen_norms_eval_mode_and_plain_loops_are_healthy():
    frozen, other, still = mlp(), replace(mlp(), to(FrozenBatchNorm1d)), mlp().eval()
    freeze(frozen)
    without = mlp(norm=lambda c: nn.BatchNorm1d(c, track_running_stats=False))
    for model in (frozen, other, still, without):
        for reentrant in (True, False):
            step = checkpointed(model, use_reentrant=reentrant)
            assert found(rule, model, record=watched(model, features(3), step)) == []
    assert found(rule, mlp(), record=watched(mlp(), features(3))) == []


def twice(model, pause):
    """Sharpness-aware minimization: a second pass at other weights."""

    def step(batch):
        loss(model(batch[0]), batch).backward()
        with pause_statistics(model) if pause else contextlib.nullcontext():
            loss(model(batch[0]), batch).backward()

    return step


@pytest.mark.parametrize(("make", "data", "first", "second"), CASES)
def test_a_second_pass_on_the_same_tensor_is_found_and_pausing_is_the_cure(
    make, data, first, second
):
    model = make()
    record = watched(model, data(3), twice(model, False))
    assert model.get_submodule(first).num_batches_tracked == 6
    assert found(rule, model, record=record) == [((first, second), {"norms": 2, "calls": 3})]
    assert found(rule, model, record=watched(model, data(3), twice(model, True))) == []


def test_the_same_mini_batch_in_each_step_and_other_views_are_healthy():
    model, batch = mlp(), features(1)[0]
    assert found(rule, model, record=watched(model, [batch] * 4)) == []

    def step(batch):
        (model(batch[0]) - model(batch[0].clone())).square().mean().backward()

    assert found(rule, model, record=watched(model, features(3), step)) == []


def test_a_part_that_the_loop_calls_is_found():
    model = nn.ModuleDict({"net": mlp()})
    record = watched(model, features(3), twice(model["net"], False))
    assert found(rule, model, record=record) == [(("net.1", "net.4"), {"norms": 2, "calls": 3})]


def test_a_step_of_another_optimizer_between_is_healthy():
    model = mlp()
    head = torch.optim.SGD(model[6].parameters(), lr=0.1)

    def step(batch):
        for _ in range(2):
            loss(model(batch[0]), batch).backward()
            head.step()

    assert found(rule, model, record=watched(model, features(3), step)) == []


def test_threshold(monkeypatch):
    model = mlp()
    record = watched(model, features(4), twice(model, False))
    record.norms["1"].again = record.norms["4"].again = 1
    assert found(rule, model, record=record) == []
    monkeypatch.setattr(rule, "SHARE", 0.25)
    assert found(rule, model, record=record)
