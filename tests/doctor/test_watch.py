"""Watching a loop: cheap hooks, gone at the end, and nothing else changed."""

import collections
import contextlib
import copy
import io
import subprocess
import sys

import pytest
import torch
from doctor.planted import Residual, features, images, loss, mlp, watched
from doctor.test_examine import bits
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks
from torch.utils.checkpoint import checkpoint

from bnlib.doctor import watch
from bnlib.doctor.record import LONGEST
from bnlib.doctor.watch import EVERY


def hooks(model, optimizer=None):
    """Count all hooks of a model, its parameters and its optimizer."""
    kinds = ("_forward_pre_hooks", "_forward_hooks")
    places = [v for m in model.modules() for k, v in vars(m).items() if k in kinds]
    places += [p._post_accumulate_grad_hooks or {} for p in model.parameters()]
    if optimizer is not None:
        places += [optimizer._optimizer_step_post_hooks, _global_optimizer_post_hooks]
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
        parts, calls = 1 + 2, 2  # the model and its norms
        assert hooks(model, optimizer) == 2 * parts + calls + len(list(model.parameters())) + 2
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
    assert "\nWatched: 4 steps, 4 forward passes of the model\n" in str(report)
    with watch(model) as record:
        model(data[0][0])
    assert (record.report().steps, record.passes) == (None, 1)
    assert "\nWatched: 1 forward pass of the model\n" in str(record.report())


def test_a_model_that_is_never_called_is_named(monkeypatch):
    model = mlp()
    optimizer, other = torch.optim.SGD(model.parameters(), lr=0.1), copy.deepcopy(model)
    with watch(model, optimizer) as record:
        loss(other(features()[0][0]), features()[0]).backward()
        optimizer.step()
    monkeypatch.setenv("COLUMNS", "92")
    words = "Watched: 1 step, 0 forward passes of the model; watch the module that the loop calls"
    assert words in str(record.report())


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


class Lit(nn.Module):
    """Calls its parts in a method of its own, as a LightningModule does."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def training_step(self, x):
        for part in self.parts:
            x = part(x)
        return x


def two_parts():
    return Lit(nn.Sequential(mlp(), nn.Linear(4, 5)), mlp())


def run(model, data, step):
    return watched(model, data, lambda batch: loss(step(batch[0]), batch).backward())


def test_parts_called_one_after_another_are_one_pass():
    model = two_parts()
    record = run(model, features(3), model.training_step)
    assert record.patterns == {"fbs": 3}
    assert record.passes == 3
    with watch(model) as record, torch.no_grad():
        for batch in features(4):
            model.training_step(batch[0])
    assert record.longest == {"n": 4}
    assert record.passes_without_gradients == 4


def test_the_same_part_again_is_the_next_pass():
    model = Lit(mlp())
    step = lambda x: model.training_step(x) + model.training_step(x.flip(0))  # noqa: E731
    assert run(model, features(3), step).patterns == {"ffbs": 3}


def test_parts_in_a_dict_are_found_and_norms_that_stand_alone():
    model = nn.ModuleDict({"body": mlp(), "norm": nn.BatchNorm1d(4)})
    record = run(model, features(3), lambda x: model["norm"](model["body"](x)))
    assert record.patterns == {"fbs": 3}


def test_methods_of_parts_are_looked_into():
    """As with ``forward_features`` of a backbone in a LightningModule."""
    model = Lit(Lit(nn.Sequential(mlp(), nn.Linear(4, 5)), mlp()))
    assert run(model, features(3), model.parts[0].training_step).patterns == {"fbs": 3}


def test_a_part_without_gradients_is_no_pass_of_the_whole():
    model = two_parts()

    def step(x):
        with torch.no_grad():
            x = model.parts[0](x)
        return model.parts[1](x)

    record = run(model, features(3), step)
    assert record.patterns == {"nfbs": 3}
    assert record.passes_without_gradients == 0
    model = Lit(mlp(), nn.Linear(4, 4))  # the head has no norm, so its call is not seen

    def with_head(x):
        with torch.no_grad():
            x = model.parts[0](x)
        return model.parts[1](x)

    record = run(model, features(3), with_head)
    assert record.patterns == {"nbs": 3}
    assert record.passes_without_gradients == 0


def test_a_pass_that_raises_or_repeats_a_part_hides_none_behind_it():
    model = mlp()
    with watch(model) as record:
        for x in (features()[0][0], torch.randn(1, 5), features()[0][0]):  # a single value
            with contextlib.suppress(ValueError):
                model(x)
    assert record.rest == "fff"


def test_calls_within_a_pass_are_not_counted():
    model = Residual()
    assert run(model, images(3), model).patterns == {"fbs": 3}


def test_gradients_that_are_cleared_between_two_backward_passes_are_seen():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as record:
        for clears in (True, False):
            optimizer.zero_grad()
            for batch in features(3):
                if clears:
                    optimizer.zero_grad()
                loss(model(batch[0]), batch).backward()
            optimizer.step()
    assert record.patterns == {"fbzfbzfbs": 1, "fbfbfbs": 1}


def test_copies_take_no_hook_along(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as record:
        train(model, features(2), optimizer)
        copied, stream = copy.deepcopy(model), io.BytesIO()
        torch.save(model, stream)
        stream.seek(0)
        loaded = torch.load(stream, weights_only=False)
        for other in (copied, loaded):
            other(features()[0][0]).sum().backward()
        assert record.norms["1"].modes == {"train": 2}
        assert record.rest == ""
    for other in (copied, loaded):
        other(features()[0][0])
        torch.save(other, tmp_path / "model.pt")
    assert record.norms["1"].modes == {"train": 2}


def test_a_saved_model_is_loaded_without_bnlib(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with watch(model):
        torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch; sys.modules['bnlib'] = None; "
        "print(torch.load(sys.argv[1], weights_only=False)(torch.zeros(2, 3)).shape)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "torch.Size([2, 4])\n"


def test_an_exported_model_is_exported_without_the_hooks():
    model = mlp()
    with watch(model) as record:
        program = torch.export.export(model, (features()[0][0],))
    assert not any("isfinite" in str(node.target) for node in program.graph.nodes)
    assert record.norms["1"].modes == {}


def test_a_step_of_another_optimizer_makes_it_another_pass():
    model = mlp()
    own, other = (torch.optim.SGD(p.parameters(), lr=0.1) for p in (model, model[6]))
    with watch(model, own) as record:
        for batch in features(3):
            loss(model(batch[0]), batch).backward()
            other.step()
            loss(model(batch[0]), batch).backward()
            own.step()
    assert record.norms["1"].again == 0
    assert record.steps == 3


@pytest.mark.parametrize(("momentum", "moved"), [(0.1, 1), (0.01, 1), (None, 0), (1.0, 0), (0, 0)])
def test_a_momentum_for_recomputing_does_not_count(momentum, moved):
    model = mlp()
    with watch(model) as record, torch.no_grad():
        model[1].momentum = momentum
        model(features()[0][0])
    assert record.norms["1"].moved_without_gradient == moved


def test_norms_without_parameters_learn_with_the_layer_before():
    model = mlp(norm=lambda c: nn.BatchNorm1d(c, affine=False))
    assert watched(model, features()).norms["4"].learned
    for parameter in model[:6].parameters():
        parameter.requires_grad_(False)
    assert not watched(model, features()).norms["4"].learned


class OfDicts(nn.Module):
    """A norm that takes what is no tensor."""

    def __init__(self, shape=(5,)):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    def forward(self, given=None):
        x = torch.zeros(2, 5) if given is None else given["x"] if isinstance(given, dict) else given
        return x - self.running_mean


def test_what_a_norm_is_given_never_ends_the_training():
    for given in ({"x": torch.ones(3, 5)}, None, 2.0):
        model = OfDicts()
        with watch(model) as record:
            model(given)
            model()
        assert record.norms[""].modes == {"train": 2}
        assert not record.norms[""].values
        record.report()
    returns = OfDicts(())  # a normalizer of single numbers has no channels
    with watch(returns) as record:
        returns(torch.randn(8))
    assert not record.norms[""].values


def test_arguments_of_any_signature():
    class Own(nn.BatchNorm1d):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    record = watched(mlp(norm=Own), features())
    assert record.norms["1"].values == {16: 4}


def test_lazy_and_scripted_models_are_refused_by_name_and_scripted_parts_passed_over():
    lazy = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match="model: run it once before"), watch(lazy):
        pass
    lazy(torch.randn(3, 2))
    with watch(lazy) as record:
        lazy(torch.randn(3, 2))
    assert record.norms["1"].values == {3: 1}
    with pytest.warns(DeprecationWarning, match="jit"):
        scripted = torch.jit.script(mlp())
    with pytest.raises(TypeError, match="model: watch it before"), watch(scripted):
        pass
    model = nn.Sequential(scripted, nn.BatchNorm1d(4))
    with watch(model) as record:
        model(features()[0][0])
    assert record.rest == "f"
    assert (record.norms["0.1"].modes, record.norms["1"].modes) == ({}, {"train": 1})


def test_rules_are_skipped_where_nothing_ran():
    model, other = mlp(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as record:
        other(features()[0][0])
        optimizer.step()
    skipped = record.report().skipped
    assert skipped["thawed-by-train"] == "a call of a norm in the watched loop"
    with watch(model, optimizer) as record:
        loss(model(features()[0][0]), features()[0]).backward()
    skipped = record.report().skipped
    assert skipped["train-forgotten"] == "a step of the watched optimizer"
    assert "thawed-by-train" not in skipped
