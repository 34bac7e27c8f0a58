import pytest
import torch
from doctor.planted import Residual, checked, features, found, images, loss, mlp, trained, watched
from torch import nn

from bnlib.doctor.rules import frozen_but_moving as rule
from bnlib.nn import FrozenBatchNorm1d, FrozenBatchNorm2d
from bnlib.surgery import freeze, pause_statistics, replace, to

CASES = [(mlp, features, ("1", "4"), "6"), (Residual, images, ("b", "d"), "e")]


@pytest.mark.parametrize(("make", "data", "names", "head"), CASES)
def test_a_backbone_without_gradients_is_found_and_freeze_is_the_cure(make, data, names, head):
    model = make().requires_grad_(False)
    model.get_submodule(head).requires_grad_(True)
    before = model.get_submodule(names[0]).running_mean.clone()
    record = watched(model, data(3), learns=model.get_submodule(head))
    assert not torch.equal(model.get_submodule(names[0]).running_mean, before)
    assert found(rule, model) == [(names, {"norms": 2, "updates": 0})]
    assert found(rule, model, record=record) == [(names, {"norms": 2, "updates": 3})]
    freeze(model)
    assert found(rule, model.train()) == []


def test_frozen_classes_eval_mode_and_paused_statistics_are_healthy():
    for make, frozen in ((mlp, FrozenBatchNorm1d), (Residual, FrozenBatchNorm2d)):
        model = replace(make(), to(frozen)).requires_grad_(False)
        assert found(rule, model) == []
    model = mlp().requires_grad_(False)
    assert found(rule, model.eval()) == []
    model.train()
    with pause_statistics(model):
        assert found(rule, model) == []


def test_norms_that_learn_cannot_move_or_have_nothing_to_learn_are_healthy():
    still = mlp().requires_grad_(False)
    still[1].momentum = still[4].momentum = 0.0
    plain = mlp(norm=lambda c: nn.BatchNorm1d(c, affine=False))
    for model in (mlp(), trained(Residual(), images()), still, plain):
        assert found(rule, model) == []


def test_updates_are_counted_not_calls():
    """A loop that pauses the statistics in some of its passes moves them in the others only."""
    model = mlp().requires_grad_(False)
    model[6].requires_grad_(True)

    def step(batch):
        loss(model(batch[0]), batch).backward()
        with pause_statistics(model):
            model(batch[0])

    record = watched(model, features(3), step, learns=model[6])
    assert record.norms["1"].modes["train"] == 6
    [(_, evidence)] = found(rule, model, record=record)
    assert evidence["updates"] == 3


def test_a_half_frozen_norm_learns():
    model = mlp()
    model[1].weight.requires_grad_(False)
    assert found(rule, model) == []


def test_a_teacher_that_follows_its_student_is_healthy():
    model = nn.ModuleDict({"student": mlp(), "teacher": mlp().requires_grad_(False)})

    def step(batch):
        target = model["teacher"](batch[0])
        (model["student"](batch[0]) - target).square().mean().backward()
        pairs = zip(model["teacher"].parameters(), model["student"].parameters(), strict=True)
        for old, new in pairs:
            old.data.lerp_(new.data, 0.5)

    watched(model, features(3), step)
    record = watched(model, features(3), step)
    assert found(rule, model, record=record) == []


@pytest.mark.parametrize(("make", "data", "names", "head"), CASES)
def test_a_backbone_left_out_of_the_optimizer_is_found(make, data, names, head):
    model = make()
    part = model.get_submodule(head)
    record = watched(model, data(3), learns=part)
    options = {"record": record, "optimizer": record.optimizer}
    [one] = checked(rule, model, **options)
    assert (one.severity, one.where, dict(one.evidence)) == (
        None,
        names,
        {"norms": 2, "updates": 3},
    )
    assert found(rule, model, record=record) == []  # nobody gave the optimizer
    [one] = checked(rule, model, optimizer=record.optimizer)
    assert one.severity == "note"  # a second optimizer may have them
    whole, other = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, make()))
    assert found(rule, model, optimizer=whole) == []
    assert found(rule, model, optimizer=other) == []  # of another model, or of copies


def test_a_part_that_a_second_optimizer_trains_is_healthy():
    model = nn.ModuleDict({"one": mlp(), "other": mlp()})
    second = torch.optim.SGD(model["other"].parameters(), lr=0.1)

    def step(batch):
        sum(loss(part(batch[0]), batch) for part in model.values()).backward()
        second.step()

    record = watched(model, features(3), step, learns=model["one"])
    assert found(rule, model, record=record, optimizer=record.optimizer) == []


def severities(model, **options):
    return [each.severity for each in checked(rule, model, **options)]


def test_without_a_loop_a_follower_is_good_to_know():
    teacher = nn.ModuleDict({"student": mlp(), "teacher": mlp().requires_grad_(False)})
    assert severities(teacher) == ["note"]
    assert severities(mlp().requires_grad_(False)) == ["note"]  # while its generator learns
    backbone = nn.Sequential(mlp().requires_grad_(False), nn.Linear(4, 4))
    assert severities(backbone) == [None]
    blocks = nn.Sequential(mlp(), nn.Linear(4, 5), mlp())  # the first norms of three parts
    blocks[0].requires_grad_(False)
    assert severities(blocks) == ["note"]
    blocks[2] = Residual()
    assert severities(blocks) == [None]
