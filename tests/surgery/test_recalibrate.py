"""Recalibrated statistics are those of the data, whatever the batches; nothing else changes."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_inputs import SEED
from surgery.architectures import ALL_SHAPES, MLP, SHAPES, ResNet, build, example
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from bnlib.surgery import freeze, recalibrate

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def batch_norms(model):
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }


def one_big_batch(model, x):
    """Return a copy whose statistics come from torch's own train mode on all of the data."""
    model = copy.deepcopy(model).eval()
    for module in batch_norms(model).values():
        module.reset_running_stats()
        module.momentum = None
        module.train()
    with torch.no_grad():
        model(x)
    return model.eval()


def snapshot(model):
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    settings = [(m.momentum, m.track_running_stats) for m in batch_norms(model).values()]
    return state, modes, hooks, settings


def assert_unchanged(model, before, but=()):
    state, *rest = before
    now, *rest_now = snapshot(model)
    assert rest == rest_now
    for key, value in state.items():
        if not key.endswith(tuple(but)):
            assert torch.equal(now[key], value), key


STATISTICS = ("running_mean", "running_var")


@pytest.mark.parametrize("architecture", SHAPES)
def test_one_batch_equals_train_mode(architecture):
    model, x = build(architecture, hard=False), example(architecture, 12)
    expected = one_big_batch(model, x)
    recalibrate(model, [x], progress=False)
    for name, module in batch_norms(model).items():
        wanted = expected.get_submodule(name)
        torch.testing.assert_close(module.running_mean, wanted.running_mean, **EXACT)
        torch.testing.assert_close(module.running_var, wanted.running_var, **EXACT)


@pytest.mark.parametrize("architecture", ALL_SHAPES)
@pytest.mark.parametrize("layerwise", [False, True])
def test_only_the_statistics_change(architecture, layerwise):
    model, x = build(architecture), example(architecture, 7)
    model.train(not layerwise)
    before = snapshot(model)
    result = recalibrate(model, x.split(3)[:2], layerwise=layerwise, progress=False)
    assert_unchanged(model, before, STATISTICS)
    assert result.keys() <= batch_norms(model).keys()
    for name, pooled in result.items():
        torch.testing.assert_close(model.get_submodule(name).running_mean, pooled.mean)


@pytest.mark.parametrize("architecture", SHAPES)
def test_layerwise_statistics_are_those_of_the_inputs_in_eval_mode(architecture):
    model, x = build(architecture), example(architecture, 9)
    result = recalibrate(model, x.split(4), layerwise=True, progress=False)
    seen = {name: [] for name in result}
    for name, values in seen.items():
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, args, values=values: values.append(args[0].transpose(0, 1).flatten(1))
        )
    for batch in x.split(4):
        model(batch)
    for name, values in seen.items():
        values = torch.cat(values, 1)
        torch.testing.assert_close(result[name].mean, values.mean(1), **EXACT)
        torch.testing.assert_close(result[name].var, values.var(1), **EXACT)
        assert result[name].count == values.shape[1]


@pytest.mark.parametrize("architecture", SHAPES)
def test_layerwise_statistics_do_not_depend_on_the_batches(architecture):
    x = example(architecture, 9)
    models = [build(architecture) for _ in range(2)]
    for model, size in zip(models, (9, 4), strict=True):  # 4 leaves a single example at the end
        recalibrate(model, x.split(size), layerwise=True, progress=False)
    for name, value in models[0].state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[name], value, **EXACT)


@given(
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=6),
    mean=st.sampled_from([0, 1e4]),
    drift=st.sampled_from([0, 3]),
    unbiased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_batches_of_any_size_are_pooled_exactly(sizes, mean, drift, unbiased, seed):
    generator = torch.Generator().manual_seed(seed + SEED)
    batches = [
        mean + drift * i + torch.randn(m, 2, 3, generator=generator, dtype=torch.float64)
        for i, m in enumerate(sizes)
    ]
    model = nn.BatchNorm1d(2).double()
    [pooled] = recalibrate(model, iter(batches), unbiased=unbiased, progress=False).values()
    values = torch.cat(batches).transpose(0, 1).flatten(1)
    assert (pooled.examples, pooled.count) == (sum(sizes), values.shape[1])
    torch.testing.assert_close(model.running_mean, values.mean(1))
    torch.testing.assert_close(model.running_var, values.var(1, correction=int(unbiased)))


def test_float32_is_accurate_at_a_large_mean():
    x = 1e4 + torch.randn(4000, 3, generator=torch.Generator().manual_seed(SEED))
    model = nn.BatchNorm1d(3)
    recalibrate(model, x.split(700), progress=False)
    torch.testing.assert_close(model.running_var, x.double().var(0).float(), rtol=1e-6, atol=0)


def test_batch_norm_that_is_called_twice_pools_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, a, b):
            return self.norm(a) + self.norm(b)

    a, b = torch.randn(5, 2), 3 + torch.randn(5, 2)
    model = Twice()
    for layerwise in (False, True):
        recalibrate(model, [{"a": a, "b": b}], layerwise=layerwise, progress=False)
        torch.testing.assert_close(model.norm.running_mean, torch.cat([a, b]).mean(0))
        torch.testing.assert_close(model.norm.running_var, torch.cat([a, b]).var(0))


def test_dropout_is_off():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3)).train()
    x = torch.randn(50, 3)
    recalibrate(model, [x], progress=False)
    torch.testing.assert_close(model[1].running_var, x.var(0))


def test_frozen_layers_stay():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.BatchNorm1d(3)).train()
    freeze(model, ["0"])
    model[1].eval()
    before = snapshot(model)
    assert list(recalibrate(model, [torch.randn(9, 3)], progress=False)) == ["2"]
    assert_unchanged(model, before, ("2.running_mean", "2.running_var"))
    assert list(recalibrate(model, [torch.randn(9, 3)], layers=["0"], progress=False)) == ["0"]


def test_loaders():
    x, y = torch.randn(10, 12), torch.arange(10)

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(x)

    expected = build(MLP, dtype=torch.float32)
    recalibrate(expected, x.split(4), progress=False)
    for loader in (
        DataLoader(TensorDataset(x, y), batch_size=4),
        DataLoader(Stream(), batch_size=4),
        (batch for batch in x.split(4)),
        [[batch] for batch in x.split(4)],
        [{"input": batch} for batch in x.split(4)],
    ):
        model = build(MLP, dtype=torch.float32)
        recalibrate(model, loader, progress=False)
        torch.testing.assert_close(model[1].running_var, expected[1].running_var, rtol=0, atol=0)


def test_forward_and_max_batches():
    model, x = nn.BatchNorm1d(3), torch.randn(8, 3)
    loader = ({"features": batch, "label": 0} for batch in x.split(2))
    result = recalibrate(
        model, loader, forward=lambda m, b: m(b["features"]), max_batches=3, progress=False
    )
    assert result[""].count == 6
    assert next(loader)["label"] == 0  # a stream is not read further than asked


def test_progress_bar(capsys):
    recalibrate(nn.BatchNorm1d(3), torch.randn(8, 3).split(2))
    assert "4/4" in capsys.readouterr().err
    recalibrate(nn.BatchNorm1d(3), torch.randn(8, 3).split(2), progress=False)
    assert capsys.readouterr().err == ""


def test_layer_that_the_data_do_not_reach_keeps_its_statistics():
    model = build(ResNet)
    model.extra = nn.BatchNorm2d(3)
    model.extra.running_mean.fill_(7)
    for layerwise in (False, True):
        result = recalibrate(model, [example(ResNet)], layerwise=layerwise, progress=False)
        assert "extra" not in result
        assert (model.extra.running_mean == 7).all()


# ------------------------------------------------------------------ failures change nothing


def failing(batches):
    yield from batches
    raise OSError("the disk is gone")


BAD_LOADERS = {
    "raises": (lambda x: failing([x]), OSError, "disk is gone"),
    "empty": (lambda x: [], ValueError, "empty"),
    "not finite": (lambda x: [x, x / 0], ValueError, "batch 1 is not finite at 1"),
    "one value a channel": (lambda x: [x, x[:1]], ValueError, "batch 1 has one value"),
    "wrong shape": (lambda x: [x, x[:, :3]], RuntimeError, "shape"),
    "wrong type": (lambda x: [x, "abc"], TypeError, "forward=lambda"),
    "no tensor": (lambda x: [x, ()], TypeError, "not tuple"),
    "no loader": (lambda x: 3, TypeError, "iterable"),
    "interrupted": (lambda x: interrupted(x), KeyboardInterrupt, "stop"),
}


def interrupted(x):
    yield x
    raise KeyboardInterrupt("stop")


@pytest.mark.parametrize("case", BAD_LOADERS)
@pytest.mark.parametrize("train", [True, False])
def test_failure_leaves_everything_as_it_was(case, train):
    loader, error, match = BAD_LOADERS[case]
    model, x = build(MLP).train(train), example(MLP, 5)
    model[5].eval()
    before = snapshot(model)
    with pytest.raises(error, match=match):
        recalibrate(model, loader(x), progress=False)
    assert_unchanged(model, before)


@pytest.mark.parametrize("case", ["empty", "not finite", "wrong shape"])
def test_layerwise_failure_leaves_everything_as_it_was(case):
    loader, error, match = BAD_LOADERS[case]
    model, x = build(MLP), example(MLP, 5)
    before = snapshot(model)
    with pytest.raises(error, match=match):
        recalibrate(model, list(loader(x)), layerwise=True, progress=False)
    assert_unchanged(model, before)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"layers": ["0"]}, ValueError, r"\['0'\] are no batch norms; the model has \['1'"),
        ({"layers": "1"}, TypeError, "collection of names"),
        ({"layers": []}, ValueError, "layers"),
        ({"max_batches": 0}, ValueError, "max_batches must be at least 1, not 0"),
        ({"layerwise": True}, TypeError, "not an iterator"),
    ],
)
def test_bad_options(options, error, match):
    model = build(MLP)
    before = snapshot(model)
    with pytest.raises(error, match=match):
        recalibrate(model, iter([example(MLP)]), progress=False, **options)
    assert_unchanged(model, before)


def test_models_without_statistics():
    with pytest.raises(ValueError, match="no batch norm"):
        recalibrate(nn.Linear(2, 2), [])
    untracked = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))
    with pytest.raises(ValueError, match="frozen or without"):
        recalibrate(untracked, [])
    with pytest.raises(ValueError, match="0 has no running statistics"):
        recalibrate(untracked, [], layers=["0"])


def test_single_value_in_all():
    with pytest.raises(ValueError, match="single value"):
        recalibrate(nn.BatchNorm1d(2).eval(), [torch.ones(1, 2)], layerwise=True, progress=False)
