import pytest
import torch
from doctor.planted import Residual, features, found, images, loss, mlp, watched
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from bnlib.doctor import watch
from bnlib.doctor.rules import statistics_move_without_gradient as rule
from bnlib.surgery import freeze, pause_statistics


class Transfer(nn.Module):
    """A backbone without gradients, and a head that learns."""

    def __init__(self, backbone, paused=False):
        super().__init__()
        self.backbone, self.head, self.paused = backbone, nn.Linear(4, 4), paused

    def forward(self, x):
        with torch.no_grad():
            if self.paused:
                with pause_statistics(self.backbone):
                    x = self.backbone(x)
            else:
                x = self.backbone(x)
        return self.head(F.relu(x))


CASES = [(mlp, features, "1", "4"), (Residual, images, "b", "d")]


@pytest.mark.parametrize(("make", "data", "first", "second"), CASES)
def test_a_backbone_in_no_grad_is_found_and_both_cures_work(make, data, first, second):
    model = Transfer(make())
    norm = model.backbone.get_submodule(first)
    record = watched(model, data(3))
    assert int(norm.num_batches_tracked) == 3
    where = (f"backbone.{first}", f"backbone.{second}")
    assert found(rule, model, record=record) == [(where, {"norms": 2, "calls": 3})]
    paused = Transfer(make(), paused=True)
    assert found(rule, paused, record=watched(paused, data(3))) == []
    freeze(model.backbone)
    assert found(rule, model, record=watched(model.train(), data(3))) == []


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_is_another_rule(reentrant):
    """The reentrant kind runs the part without gradients first, and again in the backward pass."""
    model = nn.Sequential(nn.Linear(5, 5), mlp())

    def step(batch):
        x = model[0](batch[0])
        loss(checkpoint(model[1], x, use_reentrant=reentrant), batch).backward()

    record = watched(model, features(3), step)
    assert record.norms["1.1"].in_backward == 3
    assert record.norms["1.1"].moved_without_gradient == (3 if reentrant else 0)
    assert found(rule, model, record=record) == []


def test_a_generator_that_learns_in_turn_is_healthy():
    model = nn.ModuleDict({"generator": mlp(), "discriminator": nn.Linear(4, 1)})

    def step(batch):
        with torch.no_grad():
            fake = model["generator"](batch[0])
        model["discriminator"](fake).mean().backward()
        model["discriminator"](model["generator"](batch[0])).mean().neg().backward()

    record = watched(model, features(3), step)
    assert record.norms["generator.1"].moved_without_gradient == 3
    assert found(rule, model, record=record) == []


def test_recomputed_statistics_and_norms_in_eval_mode_are_healthy():
    model = mlp()
    with watch(model) as record:
        torch.optim.swa_utils.update_bn([x for x, _ in features()], model)
        model.eval()
        with torch.no_grad():
            model(features()[0][0])
    assert found(rule, model, record=record) == []
    assert found(rule, model, record=watched(model.train(), features())) == []


def test_a_whole_model_without_gradients_is_another_rule():
    model = mlp()
    with watch(model) as record, torch.no_grad():
        model(features()[0][0])
    assert record.norms["1"].moved_without_gradient == 1
    assert found(rule, model, record=record) == []


def test_one_look_at_the_whole_model_hides_nothing():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as record:
        for batch in features(4):
            with torch.no_grad():
                hidden = model[:3](batch[0])
            model[3:](hidden).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            model(features(1)[0][0])
    [(where, _)] = found(rule, model, record=record)
    assert where == ("1",)


def test_a_teacher_whose_norms_have_no_parameters_follows_by_its_layers():
    for follows in (True, False):
        part = lambda: mlp(norm=lambda c: nn.BatchNorm1d(c, affine=False))  # noqa: E731
        model = nn.ModuleDict({"student": part(), "teacher": part().requires_grad_(False)})

        def step(batch, model=model, follows=follows):
            with torch.no_grad():
                target = model["teacher"](batch[0])
                pairs = (model[name].parameters() for name in ("teacher", "student"))
                for old, new in zip(*pairs, strict=True):
                    old.lerp_(new, 0.05 * follows)
            (model["student"](batch[0] + 0.01) - target).square().mean().backward()

        record = watched(model, features(3), step, learns=model["student"])
        names = [where for where, _ in found(rule, model, record=record)]
        assert names == ([] if follows else [("teacher.1", "teacher.4")])


def test_a_backbone_in_no_grad_whose_parts_the_loop_calls_is_found():
    model = nn.ModuleDict({"backbone": mlp(), "head": nn.Linear(4, 4)})

    def step(batch):
        with torch.no_grad():
            x = model["backbone"](batch[0])
        loss(model["head"](x), batch).backward()

    record = watched(model, features(3), step)
    assert [where for where, _ in found(rule, model, record=record)] == [
        ("backbone.1", "backbone.4")
    ]


def test_an_evaluation_of_a_part_is_another_rule():
    model = nn.ModuleDict({"net": mlp()})
    with watch(model) as record, torch.no_grad():
        for batch in features(3):
            model["net"](batch[0])
    assert found(rule, model, record=record) == []
