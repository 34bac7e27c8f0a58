"""Examining says what is wrong and leaves the model, bit for bit, as it was."""

import contextlib
import copy
import random

import numpy as np
import pytest
import torch
from doctor.planted import Residual, features, found, images, loss, mlp, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnlib.doctor import assert_healthy, examine
from bnlib.doctor.case import NEEDS
from bnlib.doctor.examine import MOST_BATCHES
from bnlib.doctor.rules import large_momentum


def bits(model):
    """Everything of a model that examining could change, tensors as bytes."""
    tensors = {k: v.numpy().tobytes() for k, v in model.state_dict().items()}
    grads = {
        k: None if p.grad is None else (id(p.grad), p.grad.numpy().tobytes())
        for k, p in model.named_parameters()
    }
    modules = {
        name: (
            type(module),
            module.training,
            {k: sorted(v) for k, v in vars(module).items() if k.endswith("_hooks")},
            {k: id(v) for k, v in module._parameters.items()},
            {k: id(v) for k, v in module._buffers.items()},
        )
        for name, module in model.named_modules()
    }
    return tensors, grads, modules


def random_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


class Failing(nn.Module):
    """Raises behind its first norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        self.norm(x)
        random.random()
        torch.rand(1)
        raise RuntimeError("the model broke")


class Fuse(nn.Module):
    """Raises at one of all its calls, those of copies included."""

    calls = 0

    def __init__(self, at):
        super().__init__()
        self.at = at

    def forward(self, x):
        if self.at == Fuse.calls:
            raise RuntimeError("the model broke")
        Fuse.calls += 1
        random.random()
        return x + torch.rand(1)


@settings(max_examples=30)
@given(
    training=st.booleans(),
    raises_at=st.none() | st.integers(0, 12),
    with_grad=st.booleans(),
    eval_part=st.booleans(),
    poisoned=st.booleans(),
    dropout=st.booleans(),
)
def test_everything_stays_as_it_was(training, raises_at, with_grad, eval_part, poisoned, dropout):
    Fuse.calls = -100
    model = nn.Sequential(Residual(bias=True), nn.Dropout(0.5 if dropout else 0.0), Fuse(raises_at))
    data = images(2, 4)
    if with_grad:
        loss(model(data[0][0]), data[0]).backward()
    model.train(training)
    model[0].b.train(eval_part)
    model.register_forward_hook(lambda *_: None)
    if poisoned:
        model[0].d.running_mean[0] = float("nan")
    before, states = bits(model), random_states()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    Fuse.calls = 0
    with contextlib.suppress(RuntimeError):
        examine(model, data, loss=loss, optimizer=optimizer)
    assert Fuse.calls == raises_at if raises_at is not None else Fuse.calls > 12
    assert bits(model) == before
    assert random_states() == states


def test_everything_stays_after_an_exception_in_the_model():
    model = Failing()
    before, states = bits(model), random_states()
    with pytest.raises(RuntimeError, match="the model broke") as raised:
        examine(model, features())
    assert "train mode" in raised.value.__notes__[0]
    assert bits(model) == before
    assert random_states() == states


def test_a_forward_that_runs_the_model_itself_changes_nothing():
    model = mlp()
    before = bits(model)
    report = examine(model, features(), forward=lambda _, batch: model.train()(batch[0]))
    assert bits(model) == before
    assert "has to run the model that it is given" in report.skipped["few-values"]


def test_a_loss_that_fills_the_gradients_of_the_model_itself_changes_nothing():
    model = mlp(bias=True)
    loss(model(features()[0][0]), features()[0]).backward()
    before = bits(model)

    def own_loss(output, batch):
        loss(model(batch[0]), batch).backward()
        return loss(output, batch)

    examine(model, features(), loss=own_loss)
    assert bits(model) == before


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_made_where_the_caller_has_turned_them_off(context):
    model, data = mlp(bias=True), features()
    with context():
        report = examine(model, data)
    assert "idle-bias" in [finding.rule for finding in report.findings]


def test_iterators_are_read_to_the_fourth_batch_and_lists_at_their_end():
    taken = []

    def generate():
        for batch in features(10):
            taken.append(batch)
            yield batch

    examine(mlp(), generate())
    assert len(taken) == MOST_BATCHES
    small = [*features(6, 16), (torch.randn(2, 5), torch.zeros(2, dtype=torch.long))]
    report = examine(mlp(), small, select=["few-values"])
    assert report.findings[0].evidence["values"] == 2


def test_state_dict_alone():
    model = mlp()
    model[1].running_var[2] = -1
    report = examine(model.state_dict())
    assert [(f.rule, f.where) for f in report.findings] == [("negative-variance", ("1",))]
    assert [row.name for row in report.norms] == ["1", "4"]
    assert report.skipped["idle-bias"] == NEEDS["structure"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within torch.compile
def test_wrappers_are_looked_through():
    model = mlp()
    model[1].momentum = 0.99
    wrapped = examine(nn.DataParallel(model))
    compiled = examine(torch.compile(model))
    assert wrapped.findings[0].where == compiled.findings[0].where == ("1",)


def test_healthy_models_are_called_healthy():
    for model, data in ((Residual(), images()), (mlp(), features())):
        assert_healthy(model, data, fail_on="note")
        assert_healthy(trained(model, data), data, fail_on="note")


def test_assert_healthy_shows_the_report():
    model = mlp()
    model[1].momentum = 0.99
    with pytest.raises(AssertionError, match=r'large-momentum at "1"[\s\S]*values per mean'):
        assert_healthy(model, features())
    assert_healthy(model, features(), fail_on="error")
    assert_healthy(model, features(), ignore=["large-momentum"])


def test_assert_healthy_fails_if_nothing_could_be_checked():
    with pytest.raises(AssertionError, match="2 norms, nothing was checked"):
        assert_healthy(mlp(), select=["idle-bias"])
    assert_healthy(mlp(), features(), select=["idle-bias"])
    assert_healthy(nn.Linear(5, 4), select=["idle-bias"])  # without norms there is nothing to find


def test_pytest_hides_the_frames_of_assert_healthy():
    with pytest.raises(AssertionError) as raised:
        assert_healthy(mlp(), select=["idle-bias"])
    assert [frame.name for frame in raised.traceback.filter(raised)] == [
        "test_pytest_hides_the_frames_of_assert_healthy"
    ]


def notes(*arguments, **options):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of torch, and only its notes count
        examine(*arguments, **options)
    return "\n".join(raised.value.__notes__)


def test_one_mini_batch_in_place_of_a_list_is_recognized():
    [(x, y)] = features(1)
    words = "This looks like one mini-batch, not a list of them: write [batch]"
    for batches in ((x, y), [x, x[:, :, None]]):
        assert words in notes(mlp(), batches)
    for batches in ([x, x[:, :3]], [x, y[:3]], [(x[:, :3], y)], [x[:, :3]]):
        assert words not in notes(mlp(), batches)


def test_forward_is_named_where_the_model_got_a_part_of_the_batch():
    [(x, y)] = features(1)
    wide = x.repeat(1, 2)
    assert "forward=lambda" in notes(mlp(), [(wide, y)])
    for batches in ([wide], [(wide,)], [{"input": wide}]):
        assert "in train mode" in notes(mlp(), batches)
        assert "forward=" not in notes(mlp(), batches)
    assert "forward=" not in notes(mlp(), [(wide, y)], forward=lambda model, b: model(b[0]))


BAD = [
    ({"model": [1]}, TypeError, "model: expected a torch.nn.Module or a state dict, got list"),
    ({"model": {"state": {"a": torch.ones(1)}}}, ValueError, "is it the entry 'state'"),
    ({"model": {"a": torch.ones(1)}, "batches": [1]}, ValueError, "cannot be run"),
    ({"batches": torch.ones(2, 5)}, TypeError, r"for a single batch x, write \[x\]"),
    ({"batches": []}, ValueError, "at least one mini-batch"),
    ({"batches": [3]}, TypeError, "forward=lambda"),
    ({"forward": 3, "batches": [1]}, TypeError, "forward: expected a function"),
    ({"loss": 3, "batches": [1]}, TypeError, "loss: expected a function"),
    ({"loss": loss}, ValueError, "batches: forward and loss need"),
    ({"optimizer": 0.1}, TypeError, r"optimizer: expected a torch.optim.Optimizer, got 0.1"),
    ({"select": "few-values"}, TypeError, "select: expected a collection"),
    ({"select": ["few-value"]}, ValueError, r"did you mean few-values\?"),
    ({"ignore": ["idle"]}, ValueError, "ignore: no rule 'idle'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        examine(**{"model": mlp(), **arguments})


def test_a_model_that_cannot_be_copied_is_examined_without_passes():
    model = mlp()
    model.cached = model[0].weight * 2
    report = examine(model, features())
    assert "cannot be copied" in report.skipped["train-eval-gap"]
    assert "large-momentum" in report.checked


def test_rules_do_not_change_the_case_they_share():
    model = copy.deepcopy(mlp())
    assert found(large_momentum, model) == []
