"""Recalibrated statistics are those of the data, whatever the batches; nothing else changes."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_inputs import SEED
from surgery.architectures import ALL_SHAPES, MLP, SHAPES, ResNet, build, example
from surgery.batch_norm_act import BatchNormAct2d, BatchNormReLU, Before, Contiguous, Noisy
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from bnlib import nn as bnn
from bnlib.surgery import adapt, freeze, recalibrate, use_batch_statistics

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
    recalibrate(model, [x])
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
    result = recalibrate(model, x.split(3)[:2], layerwise=layerwise)
    assert_unchanged(model, before, STATISTICS)
    assert result.keys() <= batch_norms(model).keys()
    for name, pooled in result.items():
        torch.testing.assert_close(model.get_submodule(name).running_mean, pooled.mean)


@pytest.mark.parametrize("architecture", SHAPES)
def test_layerwise_statistics_are_those_of_the_inputs_in_eval_mode(architecture):
    model, x = build(architecture), example(architecture, 9)
    result = recalibrate(model, x.split(4), layerwise=True)
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
        recalibrate(model, x.split(size), layerwise=True)
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
    [pooled] = recalibrate(model, iter(batches), unbiased=unbiased).values()
    values = torch.cat(batches).transpose(0, 1).flatten(1)
    assert (pooled.examples, pooled.count) == (sum(sizes), values.shape[1])
    torch.testing.assert_close(model.running_mean, values.mean(1))
    torch.testing.assert_close(model.running_var, values.var(1, correction=int(unbiased)))


def test_float32_is_accurate_at_a_large_mean():
    x = 1e4 + torch.randn(4000, 3, generator=torch.Generator().manual_seed(SEED))
    model = nn.BatchNorm1d(3)
    recalibrate(model, x.split(700))
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
        recalibrate(model, [{"a": a, "b": b}], layerwise=layerwise)
        torch.testing.assert_close(model.norm.running_mean, torch.cat([a, b]).mean(0))
        torch.testing.assert_close(model.norm.running_var, torch.cat([a, b]).var(0))


def test_dropout_is_off():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3)).train()
    x = torch.randn(50, 3)
    recalibrate(model, [x])
    torch.testing.assert_close(model[1].running_var, x.var(0))


def test_frozen_layers_stay():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.BatchNorm1d(3)).train()
    freeze(model, ["0"])
    model[1].eval()
    before = snapshot(model)
    assert list(recalibrate(model, [torch.randn(9, 3)])) == ["2"]
    assert_unchanged(model, before, ("2.running_mean", "2.running_var"))
    assert list(recalibrate(model, [torch.randn(9, 3)], layers=["0"])) == ["0"]


def test_loaders():
    x, y = torch.randn(10, 12), torch.arange(10)

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(x)

    expected = build(MLP, dtype=torch.float32)
    recalibrate(expected, x.split(4))
    for loader in (
        DataLoader(TensorDataset(x, y), batch_size=4),
        DataLoader(Stream(), batch_size=4),
        (batch for batch in x.split(4)),
        [[batch] for batch in x.split(4)],
        [{"input": batch} for batch in x.split(4)],
    ):
        model = build(MLP, dtype=torch.float32)
        recalibrate(model, loader)
        torch.testing.assert_close(model[1].running_var, expected[1].running_var, rtol=0, atol=0)


def test_forward_and_max_batches():
    model, x = nn.BatchNorm1d(3), torch.randn(8, 3)
    loader = ({"features": batch, "label": 0} for batch in x.split(2))
    result = recalibrate(model, loader, forward=lambda m, b: m(b["features"]), max_batches=3)
    assert result[""].count == 6
    assert next(loader)["label"] == 0  # a stream is not read further than asked


def test_progress_bar(capsys):
    recalibrate(nn.BatchNorm1d(3), torch.randn(8, 3).split(2), progress=True)
    assert "4/4" in capsys.readouterr().err
    recalibrate(nn.BatchNorm1d(3), torch.randn(8, 3).split(2))
    assert capsys.readouterr().err == ""


def test_layer_that_the_data_do_not_reach_keeps_its_statistics():
    model = build(ResNet)
    model.extra = nn.BatchNorm2d(3)
    model.extra.running_mean.fill_(7)
    for layerwise in (False, True):
        result = recalibrate(model, [example(ResNet)], layerwise=layerwise)
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
    "no loader": (lambda x: 3, TypeError, "loader: expected an iterable of batches"),
    "bare tensor": (lambda x: x, TypeError, r"got Tensor; for a single batch x, write \[x\]"),
    "bare dict": (lambda x: {"input": x}, TypeError, r"got dict; .* write \[x\]"),
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
        recalibrate(model, loader(x))
    assert_unchanged(model, before)


@pytest.mark.parametrize("case", ["empty", "not finite", "wrong shape"])
def test_layerwise_failure_leaves_everything_as_it_was(case):
    loader, error, match = BAD_LOADERS[case]
    model, x = build(MLP), example(MLP, 5)
    before = snapshot(model)
    with pytest.raises(error, match=match):
        recalibrate(model, list(loader(x)), layerwise=True)
    assert_unchanged(model, before)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"layers": ["0"]}, ValueError, r"\['0'\] are no batch norms; the model has \['1'"),
        ({"layers": "1"}, TypeError, "collection of names"),
        ({"layers": []}, ValueError, "layers"),
        ({"max_batches": 0}, ValueError, "max_batches: expected at least 1, got 0"),
        ({"max_batches": 1.5}, TypeError, r"max_batches: expected an integer, got 1\.5"),
        ({"layerwise": True}, TypeError, "not an iterator"),
        ({"forward": 3}, TypeError, "forward: expected a function of a model and a batch, got 3"),
    ],
)
def test_bad_options(options, error, match):
    model = build(MLP)
    before = snapshot(model)
    with pytest.raises(error, match=match):
        recalibrate(model, iter([example(MLP)]), **options)
    assert_unchanged(model, before)


def test_models_without_statistics():
    with pytest.raises(ValueError, match=r"the model has no batch norm$"):
        recalibrate(nn.Linear(2, 2), [])
    with pytest.raises(ValueError, match=r"no batch norm, but 1 FrozenBatchNorm2d$"):
        recalibrate(nn.Sequential(bnn.FrozenBatchNorm2d(2)), [])
    untracked = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))
    with pytest.raises(ValueError, match="frozen or without"):
        recalibrate(untracked, [])
    with pytest.raises(ValueError, match="0 has no running statistics"):
        recalibrate(untracked, [], layers=["0"])


def test_single_value_in_all():
    with pytest.raises(ValueError, match="single value"):
        recalibrate(nn.BatchNorm1d(2).eval(), [torch.ones(1, 2)], layerwise=True)


# ------------------------------------------------------------------ the family


class Masked(nn.Module):
    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.norm = bnn.MaskedBatchNorm1d(2, momentum=1.0, dtype=dtype)

    def forward(self, x, mask=None, *, swap=False):
        return self.norm(mask=mask, input=x) if swap else self.norm(x, mask)


def padded(kind="sequence"):
    """Return sequences (9, 2, 5) or features (9, 2), the mask, and the values (2, m) that count."""
    generator = torch.Generator().manual_seed(3)
    shape = (9, 2, 5) if kind == "sequence" else (9, 2)
    x = 4 + torch.randn(shape, generator=generator, dtype=torch.float64)
    mask = torch.rand((9, *shape[2:]), generator=generator) < 0.6
    mask[3] = False  # an example of padding only
    mask[7:] = True  # each batch has a variance
    x = torch.where(mask.unsqueeze(1), x, 1e3)
    return x, mask, x.movedim(1, -1)[mask].T


@pytest.mark.parametrize("kind", ["sequence", "features"])
@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_mask_says_what_counts(kind, layerwise, swap):
    x, mask, values = padded(kind)
    model, trained = Masked(), Masked()
    trained(x, mask)
    batches = [
        {"x": a, "mask": b, "swap": swap} for a, b in zip(x.split(6), mask.split(6), strict=True)
    ]
    pooled = recalibrate(model, batches, layerwise=layerwise)["norm"]
    assert pooled.count == values.shape[1]
    assert pooled.examples == int(mask.view(9, -1).any(1).sum())
    torch.testing.assert_close(model.norm.running_mean, values.mean(1), **EXACT)
    torch.testing.assert_close(model.norm.running_var, values.var(1), **EXACT)
    torch.testing.assert_close(model.norm.running_var, trained.norm.running_var)


def test_padding_need_not_be_finite_for_the_statistics():
    x, mask, values = padded()
    x = torch.where(mask.unsqueeze(1), x, float("inf"))
    model = Masked()
    recalibrate(model, [{"x": x, "mask": mask}, {"x": x, "mask": torch.zeros_like(mask)}])
    torch.testing.assert_close(model.norm.running_mean, values.mean(1), **EXACT)


def test_bad_mask():
    x, mask, _ = padded()
    model = Masked()
    before = snapshot(model)
    for bad, error in ((mask.double(), TypeError), (mask[:, :3], ValueError)):
        with pytest.raises(error, match="mask: expected"):
            recalibrate(model, [{"x": x, "mask": bad}])
    assert_unchanged(model, before)


@pytest.mark.parametrize("group_size", [1, 2, 6])
@pytest.mark.parametrize("layerwise", [False, True])
def test_decorrelated(group_size, layerwise):
    mix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = 3 + torch.einsum("ij,njhw->nihw", mix, example(ResNet, 8).repeat(1, 2, 1, 1))
    model = nn.Sequential(
        bnn.DecorrelatedBatchNorm2d(6, group_size=group_size), nn.ReLU(), nn.BatchNorm2d(6)
    ).double()
    result = recalibrate(model, x.split(3), layerwise=layerwise)
    assert list(result) == ["0", "2"]
    values = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[0].running_mean, values.mean(1), **EXACT)
    for i, cov in enumerate(model[0].running_cov):
        expected = values[i * group_size : (i + 1) * group_size].cov().view_as(cov)
        torch.testing.assert_close(cov, expected, **EXACT)
    assert result["0"].var.shape == model[0].running_cov.shape
    frozen = freeze(model)
    assert frozen == ["0", "2"]
    assert list(recalibrate(model, [x], layers=["0"])) == ["0"]


@pytest.mark.parametrize("unbiased", [False, True])
def test_renormalization_keeps_the_biased_variance(unbiased):
    x = 2 + 3 * torch.randn(9, 4, dtype=torch.float64)
    model = bnn.BatchRenorm1d(4).double()
    recalibrate(model, x.split(3), unbiased=unbiased)
    torch.testing.assert_close(model.running_var, x.var(0, correction=0), **EXACT)
    # so nothing is left to correct: train mode is eval mode
    expected = copy.deepcopy(model).eval()(x)
    torch.testing.assert_close(model.train()(x), expected)


def test_ghost_batches_do_not_matter():
    x = torch.arange(24.0, dtype=torch.float64).view(8, 3)
    model = bnn.GhostBatchNorm1d(3, ghost_size=2).double()
    recalibrate(model, [x])
    torch.testing.assert_close(model.running_mean, x.mean(0), **EXACT)
    torch.testing.assert_close(model.running_var, x.var(0), **EXACT)


def test_conditions_do_not_matter():
    model = bnn.ConditionalBatchNorm1d(3, num_conditions=2).double()
    x = torch.randn(8, 3, dtype=torch.float64)
    recalibrate(model, [x], forward=lambda m, b: m(b, torch.zeros(len(b), dtype=torch.int64)))
    torch.testing.assert_close(model.running_var, x.var(0), **EXACT)


def test_streams_get_their_own_data():
    model = nn.Sequential(bnn.SplitBatchNorm1d(3)).double()
    x = 5 + torch.randn(8, 3, dtype=torch.float64)
    with bnn.use_stream(model, 1):
        assert list(recalibrate(model, [x])) == ["0.streams.1"]
    torch.testing.assert_close(model[0].streams[1].running_mean, x.mean(0), **EXACT)
    assert (model[0].streams[0].running_mean == 0).all()


@pytest.mark.parametrize("kind", [BatchNormAct2d, BatchNormReLU, Noisy, Contiguous])
def test_what_comes_behind_does_not_matter(kind):
    model, x = nn.Sequential(kind(3)).double(), example(ResNet, 5)
    recalibrate(model, [x])
    torch.testing.assert_close(model[0].running_mean, x.mean((0, 2, 3)), **EXACT)
    assert (model(x).min() >= 0) == (kind in (BatchNormAct2d, BatchNormReLU))


class Weighted(nn.BatchNorm2d):
    def forward(self, x, weights=None):
        return super().forward(x if weights is None else x * weights)


@pytest.mark.parametrize("kind", [Before, Weighted])
def test_other_statistics_than_those_of_the_input_are_refused(kind):
    model = nn.Sequential(nn.BatchNorm2d(3), kind(3)).double()
    before = snapshot(model)
    for change in (recalibrate, adapt):
        with pytest.raises(ValueError, match=f"1 is a {kind.__name__}, whose forward"):
            change(model, [example(ResNet)])
    for change in (freeze, use_batch_statistics):
        with pytest.raises(ValueError, match=f"1 is a {kind.__name__}, whose forward"):
            change(model)
    assert_unchanged(model, before)
    assert list(recalibrate(model, [example(ResNet)], layers=["0"])) == ["0"]


def test_statistics_of_another_kind_are_named():
    tracked = nn.InstanceNorm2d(3, track_running_stats=True)
    model = nn.Sequential(nn.BatchNorm2d(3), tracked, bnn.FrozenBatchNorm2d(3)).double()
    named = r"stay as they are: \['1 \(InstanceNorm2d\)'\]"
    with pytest.warns(UserWarning, match=named) as caught:
        recalibrate(model, [example(ResNet)])
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match=named) as caught:
        use_batch_statistics(model)
    assert [warning.filename for warning in caught] == [__file__]
    assert (tracked.running_mean == 0).all()


# ------------------------------------------------------------------ half precision


@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("adapts", [False, True])
def test_statistics_that_overflow_their_type_are_refused(layerwise, adapts):
    x = 1500 * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3)).half()
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"0: .* up to 65504.*, got 2\.\d+e"):
        (adapt if adapts else recalibrate)(model, x.half().split(16), layerwise=layerwise)
    assert_unchanged(model, before)
    recalibrate(model, (x / 100).half().split(16), layerwise=layerwise)
    assert model[0].running_var.isfinite().all()


def test_infinite_statistics_are_healed_or_put_back():
    model, x = nn.BatchNorm1d(3), torch.randn(8, 3)
    model.running_var.fill_(float("inf"))
    with pytest.raises(OSError, match="disk"):
        recalibrate(model, failing([x]))
    assert model.running_var.isinf().all()
    recalibrate(model, [x])
    torch.testing.assert_close(model.running_var, x.var(0))


def test_overflow_of_the_sum_of_two_sources():
    model = nn.BatchNorm1d(2).half()
    model.running_var.fill_(6e4)
    adapted = adapt(model, [100 * torch.randn(64, 2).half()], prior=64)
    assert adapted.running_var.isfinite().all()


def test_empty_batch_adds_nothing():
    model, x = nn.BatchNorm1d(3), torch.randn(8, 3)
    for layerwise in (False, True):
        assert recalibrate(model, [x[:0], x, x[:0]], layerwise=layerwise)[""].count == 8
        torch.testing.assert_close(model.running_mean, x.mean(0))


class Paths(nn.Module):
    """A batch takes one of two ways to the last batch norm."""

    def __init__(self):
        super().__init__()
        self.last = nn.BatchNorm1d(3)
        self.ways = nn.ModuleDict({key: nn.BatchNorm1d(3) for key in ("loud", "quiet")})

    def forward(self, x):
        way = self.ways["loud" if x.abs().mean() > 2 else "quiet"]
        return self.last(way(x).square() + x)


@pytest.mark.parametrize("swap", [False, True])
def test_layerwise_waits_for_all_ways_to_a_layer(swap):
    model = Paths().double()
    x = torch.randn(9, 3, dtype=torch.float64)
    batches = [5 + 3 * x[:5], x[5:]]
    pooled = recalibrate(model, batches[::-1] if swap else batches, layerwise=True)
    ways = [
        (b - b.mean(0)) / (b.var(0) + 1e-5).sqrt() for b in batches
    ]  # each way saw one of the batches
    expected = torch.cat([w.square() + b for w, b in zip(ways, batches, strict=True)])
    assert pooled.keys() == {"last", "ways.loud", "ways.quiet"}
    torch.testing.assert_close(model.last.running_mean, expected.mean(0), **EXACT)
    torch.testing.assert_close(model.last.running_var, expected.var(0), **EXACT)


class EitherOrder(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm1d(3), nn.BatchNorm1d(3)])

    def forward(self, x):
        a, b = self.norms if x.mean() > 0 else reversed(self.norms)
        return b(a(x))


def test_layerwise_refuses_two_layers_in_both_orders():
    model = EitherOrder()
    before = snapshot(model)
    x = torch.randn(5, 3)
    with pytest.raises(RuntimeError, match="different orders: use layerwise=False"):
        recalibrate(model, [x - 9, x + 9], layerwise=True)
    assert_unchanged(model, before)


class GhostOfReLU(bnn.GhostBatchNorm1d):
    def forward(self, input):
        return super().forward(input.relu())


class DecorrelatedOfReLU(bnn.DecorrelatedBatchNorm1d):
    def forward(self, input):
        return super().forward(input.relu())


@pytest.mark.parametrize("kind", [GhostOfReLU, DecorrelatedOfReLU])
def test_relatives_with_a_forward_of_their_own_are_refused(kind):
    model = nn.Sequential(kind(3))
    with pytest.raises(ValueError, match=f"0 is a {kind.__name__}, whose forward"):
        recalibrate(model, [torch.randn(5, 3)])


class AnyArguments(nn.BatchNorm1d):
    def forward(self, *args):
        return super().forward(*args)


def test_input_of_a_forward_with_any_arguments():
    model, x = AnyArguments(3), torch.randn(5, 3)
    recalibrate(model, [x])
    torch.testing.assert_close(model.running_mean, x.mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("part", [slice(None), slice(1, None)])
@pytest.mark.parametrize("layerwise", [False, True])
def test_compiled_parts_are_seen(part, layerwise):
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.BatchNorm1d(4)).double().eval()
    x = torch.randn(8, 3, dtype=torch.float64)
    expected = copy.deepcopy(model)
    recalibrate(expected, x.split(4), layerwise=layerwise)
    for module in [model] if part.start is None else model[part]:
        module.compile(backend="eager")
    with torch.no_grad():
        model(x[:4])
    assert len(recalibrate(model, x.split(4), layerwise=layerwise)) == 2
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, **EXACT)
