"""Within pause_statistics nothing is collected, and everything else is as without it."""

import contextlib
import copy
import pickle
import sys
import threading

import pytest
import torch
from surgery.architectures import ALL_SHAPES, build, example
from surgery.batch_norm_act import BatchNormAct2d
from torch import nn
from torch.utils.checkpoint import checkpoint

from bnlib import nn as bnn
from bnlib.surgery import freeze, pause_statistics, recalibrate

X = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))

NORMS = {
    "torch": lambda: nn.BatchNorm2d(4),
    "cumulative": lambda: nn.BatchNorm2d(4, momentum=None),
    "ours": lambda: bnn.BatchNorm2d(4),
    "bfloat16": lambda: bnn.BatchNorm2d(4, dtype=torch.bfloat16),
    "ghost": lambda: bnn.GhostBatchNorm2d(4, ghost_size=2),
    "renorm": lambda: bnn.BatchRenorm2d(4),
    "decorrelated": lambda: bnn.DecorrelatedBatchNorm2d(4),
    "split": lambda: bnn.SplitBatchNorm2d(4),
    "sync": lambda: bnn.SyncBatchNorm(4),
    "converted": lambda: bnn.convert_sync_batchnorm(nn.BatchNorm2d(4)),
    "instance": lambda: nn.InstanceNorm2d(4, track_running_stats=True),
    "our instance": lambda: bnn.InstanceNorm2d(4, track_running_stats=True),
    "act": lambda: BatchNormAct2d(4, drop_layer=nn.Dropout),
    "frozen": lambda: bnn.FrozenBatchNorm2d(4),
    "untracked": lambda: nn.BatchNorm2d(4, track_running_stats=False),
}


def trained(name):
    norm = NORMS[name]()
    norm(3 + X.to(next(norm.buffers(), X).dtype))
    return norm


def state_of(model):
    # vars, too: a layer may keep more than its buffers
    return copy.deepcopy([(type(m), vars(m)) for m in model.modules()])


def same(a, b):
    """Compare nested states, to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, nn.Module) or a == b


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_output_is_that_of_the_mode_and_nothing_moves(name, training):
    norm = trained(name).train(training)
    x = X.to(next(norm.buffers(), X).dtype)
    torch.manual_seed(0)
    expected = copy.deepcopy(norm)(x)
    before, buffers = state_of(norm), [id(b) for b in norm.buffers()]
    with pause_statistics(norm):
        for _ in range(2):
            torch.manual_seed(0)
            assert torch.equal(norm(x), expected)
            assert [id(b) for b in norm.buffers()] == buffers
    assert same(state_of(norm), before)


@pytest.mark.parametrize("architecture", ALL_SHAPES)
def test_architecture(architecture):
    model, x = build(architecture).train(), example(architecture, 5)
    state = copy.deepcopy(model.state_dict())
    with pause_statistics(model):
        model(x)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    model(x)
    assert any(not torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_nested_and_interrupted():
    model = nn.Sequential(nn.BatchNorm2d(4), bnn.BatchNorm2d(4))
    before = state_of(model)

    def interrupted():
        with pause_statistics(model):
            with pause_statistics(model[1]):
                model(X)
            model(X)
            assert int(model[1].num_batches_tracked) == 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(ValueError, match="expected 4D"), pause_statistics(model):
        model(X[0])
    assert same(state_of(model), before)
    model(X)
    assert int(model[0].num_batches_tracked) == 1


def test_threads():
    model = nn.Sequential(*[nn.BatchNorm2d(4) for _ in range(20)])
    errors = []

    def enter_and_leave():
        try:
            for _ in range(100):
                with pause_statistics(model):
                    pass
        except Exception as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=enter_and_leave) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    assert {type(module) for module in model} == {nn.BatchNorm2d}


def test_values_that_are_not_finite_do_not_poison():
    model = nn.Sequential(nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True))
    before = state_of(model)
    with pause_statistics(model):
        model(X / 0)
    assert same(state_of(model), before)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, bnn.BatchNorm2d])
def test_checkpointing_counts_once(kind):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), kind(4), nn.ReLU())
    expected = copy.deepcopy(model)
    expected(X).square().sum().backward()
    contexts = lambda: (contextlib.nullcontext(), pause_statistics(model))  # noqa: E731
    y = checkpoint(model, X, use_reentrant=False, context_fn=contexts)
    y.square().sum().backward()
    for got, wanted in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad)
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_backward_of_a_pass_from_before():
    """In eval mode the running statistics are saved for it, and must not be written."""
    model = nn.BatchNorm2d(4).eval()
    x = X.clone().requires_grad_()
    y = model(x)
    with pause_statistics(model):
        model.train()(X)
    y.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, bnn.BatchNorm2d])
def test_compiled(kind):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), kind(4))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    counts = []
    for context in (contextlib.nullcontext(), pause_statistics(model), contextlib.nullcontext()):
        with context:
            compiled(X)
        counts.append(int(model[1].num_batches_tracked))
    assert counts == [1, 1, 2]


@pytest.mark.parametrize("name", ["torch", "converted", "act"])
def test_copies_made_within_collect(name):
    model = nn.Sequential(NORMS[name]())
    with pause_statistics(model):
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for other in copies:
        assert type(other[0]) is type(model[0])
        other(X)
        assert int(other[0].num_batches_tracked) == 1
        assert int(model[0].num_batches_tracked) == 0


def test_names_masks_and_frozen_ones():
    norm = bnn.MaskedBatchNorm1d(4)
    with pause_statistics(norm):
        assert repr(norm) == repr(bnn.MaskedBatchNorm1d(4))
        norm(X.flatten(2), mask=torch.ones(6, 9, dtype=torch.bool))
    assert int(norm.num_batches_tracked) == 0
    model = nn.Sequential(nn.BatchNorm2d(4))
    freeze(model)
    with pause_statistics(model):
        model.train()(X)
    assert not model.train()[0].training


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_refused():
    model = nn.Sequential(nn.BatchNorm2d(4), torch.jit.script(nn.BatchNorm2d(4)))
    with pytest.raises(ValueError, match="1 is scripted"), pause_statistics(model):
        pass
    exported = torch.export.export(nn.Sequential(nn.BatchNorm2d(4)), (X,)).module()
    with pytest.raises(ValueError, match="0 is scripted, exported"), pause_statistics(exported):
        pass
    model = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    model[1].forward = model[0].forward
    with pytest.raises(ValueError, match="1 is scripted, exported, or has a forward"):
        pause_statistics(model).__enter__()
    assert type(model[0]) is nn.BatchNorm2d
    with pytest.raises(TypeError, match="model must be"), pause_statistics([model]):
        pass
    model = nn.Sequential(nn.BatchNorm2d(4), nn.LazyBatchNorm2d())
    with pytest.raises(ValueError, match="lazy"), pause_statistics(model):
        pass
    assert type(model[0]) is nn.BatchNorm2d


def test_what_the_first_norms_were_if_a_later_one_cannot_be_paused():
    class Final(nn.BatchNorm2d):
        def __init_subclass__(cls):
            raise TypeError("no subclass of it is allowed")

    model = nn.Sequential(nn.BatchNorm2d(4), Final(4))
    with pytest.raises(TypeError, match="no subclass"), pause_statistics(model):
        pass
    assert [type(module) for module in model] == [nn.BatchNorm2d, Final]


IN_PLACE = {
    "freeze": freeze,
    "recalibrate": lambda model: recalibrate(model, [X]),
    "to_torch": bnn.to_torch,
    "from_torch": bnn.from_torch,
    "convert_sync_batchnorm": bnn.convert_sync_batchnorm,
    "revert_sync_batchnorm": bnn.revert_sync_batchnorm,
}


@pytest.mark.parametrize("function", IN_PLACE)
def test_what_changes_norms_in_place_says_that_they_are_paused(function):
    kind = nn.BatchNorm2d if function == "from_torch" else bnn.SyncBatchNorm
    model = nn.Sequential(kind(4))
    paused = pytest.raises(ValueError, match="0 has its statistics paused: leave pause_statistics")
    with pause_statistics(model), paused:
        IN_PLACE[function](model)
    assert type(model[0]) is kind
    assert model.train()[0].training
    assert int(model[0].num_batches_tracked) == 0


@pytest.mark.parametrize("nested", [False, True])
def test_a_norm_that_is_parametrized_within_stays_so(nested):
    norm = bnn.BatchNorm2d(4)
    with pause_statistics(norm), pause_statistics(norm if nested else nn.Identity()):
        nn.utils.parametrize.register_parametrization(norm, "weight", nn.Softplus())
        norm(X)
    assert int(norm.num_batches_tracked) == 0
    torch.testing.assert_close(norm.weight, nn.functional.softplus(torch.ones(4)))
    norm(X)
    assert int(norm.num_batches_tracked) == 1
    nn.utils.parametrize.remove_parametrizations(norm, "weight")
    assert type(norm) is bnn.BatchNorm2d
