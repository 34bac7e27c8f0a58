import pytest
import torch
from doctor.planted import (
    Residual,
    checked,
    features,
    found,
    images,
    loss,
    mlp,
    trained,
    watched,
)
from torch import nn

from bnlib.doctor import watch
from bnlib.doctor.rules import eval_forgotten as rule
from bnlib.surgery import pause_statistics


def epoch(model, optimizer, data, prepare):
    """Train on some batches, then evaluate."""
    for batch in data:
        optimizer.zero_grad()
        loss(model(batch[0]), batch).backward()
        optimizer.step()
    prepare(model)
    with torch.no_grad():
        for batch in data:
            model(batch[0])
    model.train()


@pytest.mark.parametrize(
    ("make", "data", "names"), [(mlp, features, ("1", "4")), (Residual, images, ("b", "d"))]
)
def test_evaluation_in_train_mode_is_found(make, data, names):
    for prepare, is_found in ((lambda m: None, True), (nn.Module.eval, False)):
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, optimizer) as record:
            epoch(model, optimizer, data(3), prepare)
        expected = [(names, {"in_a_row": 3, "calls": 3})] if is_found else []
        assert found(rule, model, record=record) == expected


@pytest.mark.parametrize(("make", "name"), [(mlp, "4"), (Residual, "b")])
def test_a_norm_in_train_mode_within_a_model_in_eval_mode_is_found(make, name):
    model = make().eval()
    assert found(rule, model) == []
    model.get_submodule(name).train()
    assert found(rule, model) == [((name,), {"norms": 1})]


def test_frozen_parts_of_a_model_in_train_mode_are_healthy():
    model = mlp().train()
    model[1].eval()
    assert found(rule, model) == []


def with_passes(before):
    """Train 4 steps, with so many passes without gradients before each."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as record:
        for batch, passes in zip(features(4), before, strict=True):
            with torch.no_grad():
                for _ in range(passes):
                    model(batch[0])
            loss(model(batch[0]), batch).backward()
            optimizer.step()
    return [(f.severity, dict(f.evidence)) for f in checked(rule, model, record=record)]


def test_a_pass_without_gradients_in_each_step_is_healthy():
    """A generator makes one for its discriminator."""
    assert with_passes([1, 1, 1, 1]) == []


def test_rare_single_passes_are_good_to_know_and_so_are_frequent_loops():
    """Samples of a generator are drawn by one; a critic takes several steps for one of its own."""
    assert with_passes([0, 1, 0, 0]) == [("note", {"in_a_row": 1, "calls": 1})]
    assert with_passes([5, 5, 5, 5]) == [("note", {"in_a_row": 5, "calls": 20})]
    assert with_passes([0, 5, 0, 5]) == [(None, {"in_a_row": 5, "calls": 10})]


def test_paused_statistics_and_recomputed_ones_are_healthy():
    model = mlp()
    with watch(model) as record, torch.no_grad(), pause_statistics(model):
        for batch in features(4):
            model(batch[0])
    assert found(rule, model, record=record) == []
    loader = [batch[0] for batch in features(4)]
    with watch(model) as record:
        torch.optim.swa_utils.update_bn(loader, model)
    assert found(rule, model, record=record) == []


def test_no_grad_forgotten_as_well_is_found():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for prepare, is_found in ((lambda m: None, True), (nn.Module.eval, False)):
        with watch(model, optimizer) as record:
            for _ in range(2):
                for batch in features(3):
                    loss(model.train()(batch[0]), batch).backward()
                    optimizer.step()
                prepare(model)
                for batch in features(5):
                    model(batch[0])
        expected = [(("1", "4"), {"in_a_row": 6, "steps": 1})] if is_found else []
        assert found(rule, model, record=record) == expected


def unused(passes):
    """Train 4 steps, with so many further passes with gradients before each."""
    model = mlp()
    left = iter(passes)

    def step(batch):
        for _ in range(next(left)):
            model(batch[0])
        loss(model(batch[0]), batch).backward()

    return model, watched(model, features(len(passes)), step)


def test_many_passes_in_each_step_and_few_in_some_are_healthy(monkeypatch):
    for passes in ([5, 5, 5, 5], [0, 3, 0, 3]):
        model, record = unused(passes)
        assert found(rule, model, record=record) == []
    monkeypatch.setattr(rule, "UNUSED", 4)
    assert found(rule, model, record=record) == [(("1", "4"), {"in_a_row": 4, "steps": 2})]


def test_a_cumulative_average_may_be_recomputed_like_this():
    model = mlp(norm=lambda c: nn.BatchNorm1d(c, momentum=None))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as record:
        epoch(model, optimizer, features(3), lambda m: None)
    assert [each.severity for each in checked(rule, model, record=record)] == ["note"]


def test_precise_statistics_are_recomputed_with_a_momentum_of_one():
    model = mlp()
    with watch(model) as record, torch.no_grad():
        for norm in (model[1], model[4]):
            norm.momentum = 1.0
        for batch in features(4):
            model(batch[0])
        for norm in (model[1], model[4]):
            norm.momentum = 0.1
    assert found(rule, model, record=record) == []


@pytest.mark.parametrize("follows", [True, False])
def test_a_teacher_watched_alone_is_healthy(follows):
    student, teacher = trained(mlp(), features(), 3), mlp()
    with watch(teacher) as record, torch.no_grad():
        for batch in features(4):
            teacher(batch[0])
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.lerp_(new, 0.05 * follows)
    assert (found(rule, teacher, record=record) == []) == follows


def test_a_part_that_the_loop_calls_is_found():
    model = nn.ModuleDict({"net": mlp()})
    with watch(model) as record, torch.no_grad():
        for batch in features(4):
            model["net"](batch[0])
    assert found(rule, model, record=record) == [(("net.1", "net.4"), {"in_a_row": 4, "calls": 4})]


def test_threshold(monkeypatch):
    model = mlp()
    with watch(model) as record, torch.no_grad():
        for batch in features(4):
            model(batch[0])
    assert found(rule, model, record=record)
    monkeypatch.setattr(rule, "IN_A_ROW", 5)
    [single] = checked(rule, model, record=record)
    assert single.severity == "note"
    assert with_passes([1, 1, 1, 0]) == []
    monkeypatch.setattr(rule, "SHARE", 0.75)
    assert [severity for severity, _ in with_passes([1, 1, 1, 0])] == ["note"]
