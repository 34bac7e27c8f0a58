"""Watching a loop: cheap hooks, gone at the end, and nothing else changed."""

import collections
import contextlib

import pytest
import torch
from doctor.planted import Residual, features, images, loss, mlp, watched
from doctor.test_examine import bits
from torch import nn
from torch.utils.checkpoint import checkpoint

from bnlib.doctor import watch
from bnlib.doctor.watch import EVERY, LONGEST


def hooks(model, optimizer=None):
    """Count all hooks of a model, its parameters and its optimizer."""
    places = [v for m in model.modules() for k, v in vars(m).items() if k.endswith("_hooks")]
    places += [p._post_accumulate_grad_hooks or {} for p in model.parameters()]
    if optimizer is not None:
        places.append(optimizer._optimizer_step_post_hooks)
    return sum(len(place) for place in places)


def train(model, data, optimizer):
    for batch in data:
        optimizer.zero_grad()
        loss(model(batch[0]), batch).backward()
        optimizer.step()


@pytest.mark.parametrize(("make", "data"), [(mlp, features), (Residual, images)])
def test_training_is_the_same_with_and_without(make, data):
    results = []
    for with_watch in (True, False):
        torch.manual_seed(0)
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if with_watch:
            with watch(model, optimizer):
                train(model, data(), optimizer)
        else:
            train(model, data(), optimizer)
        results.append({k: v.numpy().tobytes() for k, v in model.state_dict().items()})
        assert hooks(model, optimizer) == 0
    assert results[0] == results[1]


def test_state_is_untouched_and_hooks_are_gone_after_an_exception():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, random_state = bits(model), torch.get_rng_state()
    with contextlib.suppress(KeyError), watch(model, optimizer) as record:
        assert hooks(model, optimizer) == 1 + 2 + len(list(model.parameters())) + 1
        raise KeyError
    assert hooks(model, optimizer) == 0
    assert bits(model) == before
    assert torch.equal(torch.get_rng_state(), random_state)
    assert record.norms["1"].updates == (0, 0)  # complete nevertheless
    record.report()
    assert bits(model) == before


def test_an_exception_within_a_step_keeps_what_was_seen():
    model = mlp()
    with contextlib.suppress(ValueError), watch(model) as record:
        model(features()[0][0])
        model(torch.randn(1, 5))  # torch refuses a single value
    assert record.norms["1"].modes == {"train": 2}
    assert record.norms["1"].last_values == 1
    assert record.norms["1"].updates[1] >= 1
    assert hooks(model) == 0


PATTERNS = [
    ("fbs", 1, lambda model, batch: loss(model(batch[0]), batch).backward()),
    ("fbfbs", 2, lambda model, batch: loss(model(batch[0]), batch).backward()),
    ("ffbs", 1, lambda model, batch: (model(batch[0]) + model(batch[0])).sum().backward()),
]


@pytest.mark.parametrize(("pattern", "every", "step"), PATTERNS)
def test_patterns_and_calls_per_step(pattern, every, step):
    model = mlp()
    record = watched(model, features(4), lambda batch: step(model, batch), every=every)
    steps = 4 // every
    assert record.patterns == {pattern: steps}
    assert (record.steps, record.rest) == (steps, "")
    for seen in record.norms.values():
        assert seen.per_step == {pattern.count("f"): steps}
        assert seen.modes == {"train": 4 * (2 if "ff" in pattern else 1)}
        assert seen.values == {16: seen.modes["train"]}


def test_evaluations_and_passes_without_gradients():
    model = mlp()

    def step(batch):
        with torch.no_grad():
            model(batch[0])
            model.eval()(batch[0])
        loss(model.train()(batch[0]), batch).backward()

    record = watched(model, features(3), step)
    assert record.patterns == {"nefbs": 3}
    assert record.passes_without_gradients
    assert record.longest == {"n": 1, "e": 1, "f": 1, "b": 1, "s": 1}
    seen = record.norms["1"]
    assert seen.modes == {"train": 6, "eval": 3}
    assert seen.per_step == {1: 3}
    assert seen.moved_without_gradient == 3
    assert seen.learned


def test_the_report_says_what_was_seen():
    model, data = mlp(), features(4)
    report = watched(model, data).report()
    assert (report.steps, report.passes) == (4, 4)
    assert "\nWatched: 4 steps, 4 forward passes of the model itself\n" in str(report)
    with watch(model) as record:
        model(data[0][0])
    assert (record.report().steps, record.passes) == (None, 1)
    assert "\nWatched: 1 forward pass of the model itself\n" in str(record.report())


def test_a_model_that_is_not_called_itself_is_named(monkeypatch):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

    model = Wrapped()
    record = watched(model, features(4), lambda batch: loss(model.net(batch[0]), batch).backward())
    monkeypatch.setenv("COLUMNS", "92")
    words = "Watched: 4 steps, 0 forward passes of the model itself; watch the module that the loop"
    assert words in str(record.report())
    assert record.norms["net.1"].modes == {"train": 4}


def test_long_steps_are_cut():
    model = mlp()
    with watch(model) as record:
        for _ in range(LONGEST + 9):
            model(features(1)[0][0])
    assert record.rest == "f" * LONGEST
    assert record.longest["f"] == LONGEST + 9
    assert record.steps == 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_calls_in_a_backward_pass(reentrant):
    model = mlp()

    def step(batch):
        x = batch[0].clone().requires_grad_()
        loss(checkpoint(model, x, use_reentrant=reentrant), batch).backward()

    record = watched(model, features(3), step)
    seen = record.norms["4"]
    assert (seen.in_backward, seen.repeated, seen.updates) == (3, 3, (0, 6))
    assert "bb" not in "".join(record.patterns)


@pytest.mark.parametrize("at", [0, EVERY - 1, EVERY, EVERY + 1, 2 * EVERY])
def test_nonfinite_statistics_are_seen_at_the_next_look_or_at_the_end(at):
    model = nn.BatchNorm1d(2)
    with watch(model) as record:
        for call in range(2 * EVERY + 1):
            x = torch.randn(4, 2)
            model(x * float("nan") if call == at else x)
    looks = [*range(0, 2 * EVERY + 1, EVERY), 2 * EVERY + 1]
    assert record.norms[""].nonfinite_call == min(look for look in looks if look > at)


def test_finite_statistics_are_never_said_to_be_nonfinite():
    assert watched(mlp(), features()).norms["1"].nonfinite_call is None


def test_states_before_and_after_are_copies():
    model = mlp()
    weight = model[1].weight.detach().clone()
    record = watched(model, features())
    seen = record.norms["1"]
    assert torch.equal(seen.before["weight"], weight)
    assert torch.equal(seen.after["weight"], model[1].weight)
    assert seen.updates == (0, 4)
    model[1].reset_parameters()
    assert not torch.equal(seen.after["running_mean"], model[1].running_mean)


def test_norms_of_other_classes_need_no_momentum():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(5))

        def forward(self, x):
            return x - self.running_mean

    model = nn.Sequential(Own(), nn.Linear(5, 4))
    with watch(model) as record, torch.no_grad():
        model(features()[0][0])
    assert record.norms["0"].moved_without_gradient == 0


def test_masks_and_keywords():
    from bnlib.nn import MaskedBatchNorm1d

    norm = MaskedBatchNorm1d(3)
    with watch(norm) as record:
        norm(input=torch.randn(2, 3, 4), mask=torch.ones(2, 4, dtype=torch.bool))
        norm(input=torch.randn(2, 3, 4), mask=None)
    assert record.norms[""].modes == {"train": 2}
    assert record.norms[""].values == collections.Counter({8: 1})


def test_wrappers_are_looked_through_and_wrong_arguments_refused():
    model = nn.DataParallel(mlp())
    with watch(model) as record:
        model(features()[0][0])
    assert record.norms.keys() == {"1", "4"}
    for arguments, message in (((3,), "model: expected"), ((mlp(), 0.1), "optimizer: expected")):
        with pytest.raises(TypeError, match=message), watch(*arguments):
            pass
