"""Running statistics of every layer that has them: what they hold, and when they move."""

import copy

import pytest
import torch
from family_modules import build, state
from torch import nn
from torch_modules import copies

from bnlib import nn as bnn

MASK = torch.ones(64, dtype=torch.bool)
CLASSES = torch.zeros(64, dtype=torch.int64)
TRACKING = {  # name: options, other inputs of 64 examples
    "BatchNorm1d": ({}, ()),
    "SyncBatchNorm": ({}, ()),
    "GhostBatchNorm1d": ({"ghost_size": 32}, ()),
    "MaskedBatchNorm1d": ({}, (MASK,)),
    "ConditionalBatchNorm1d": ({"num_conditions": 2}, (CLASSES,)),
    "SplitBatchNorm1d": ({"streams": 1}, ()),
    "DecorrelatedBatchNorm1d": ({}, ()),
    "BatchRenorm1d": ({}, ()),
}
EVERY = pytest.mark.parametrize("name", TRACKING)


def make(name, features=3, **more):
    """A layer, its other inputs, and its statistics (mean, and variance or covariance)."""
    options, others = TRACKING[name]
    module = getattr(bnn, name)(features, **options, **more)
    return module, others


def statistics(module):
    owner = module.streams[0] if hasattr(module, "streams") else module
    cov = getattr(owner, "running_cov", None)
    var = owner.running_var if cov is None else cov.diagonal(dim1=1, dim2=2).flatten()
    return owner.running_mean, var, owner.num_batches_tracked


# ------------------------------------------------------------------ what does not fit is refused


def refusing(name, **more):
    if not name.startswith("Decorrelated"):  # which always refuses
        more["refuse_nonfinite"] = True
    return make(name, **more)


@EVERY
def test_variance_that_float16_cannot_hold_is_refused(name, kernel):
    module, others = refusing(name, momentum=0.5)
    module.half()
    module(torch.randn(64, 3).half(), *others)
    before = state(module)
    x = torch.randn(64, 3)
    x[:, 1] *= 1500  # its variance is about 2 million, float16 ends at 65,504
    with pytest.raises(ValueError, match=r"finite.* torch\.float16"):
        module(x.half(), *others)
    torch.testing.assert_close(state(module), before, rtol=0, atol=0)
    module(torch.randn(64, 3).half(), *others)
    assert statistics(module)[1].isfinite().all()


def test_variance_that_float16_cannot_hold_is_refused_by_instance_norm(kernel):
    module = bnn.InstanceNorm1d(2, track_running_stats=True).half()
    module.refuse_nonfinite = True
    x = (1500 * torch.randn(4, 2, 50)).half()
    with pytest.raises(ValueError, match=r"finite in torch\.float16.*2 of 2 channels"):
        module(x)
    assert torch.equal(module.running_var, torch.ones(2).half())
    module.refuse_nonfinite = False
    assert module(x).isfinite().all()
    assert module.running_var.isinf().all()


@EVERY
def test_large_variance_is_kept_where_its_share_fits(name, kernel):
    module, others = refusing(name, momentum=0.001)
    module.half()
    module((1500 * torch.randn(64, 3)).half(), *others)
    assert statistics(module)[1].isfinite().all()


def test_variance_that_float32_cannot_hold_is_refused(kernel):
    module = bnn.BatchNorm1d(1, momentum=1.0, refuse_nonfinite=True)
    x = torch.tensor([[0.0], [3.4e19]])  # unbiased variance 5.78e38, float32 ends at 3.4e38
    with pytest.raises(ValueError, match=r"refuse_nonfinite: .*torch\.float32"):
        module(x)
    assert module.running_var.item() == 1


def test_statistics_that_are_not_stored_are_refused_as_well():
    x = torch.tensor([[1.0, float("inf")], [2.0, 3.0]])
    for training, options in ((True, {}), (False, {"track_running_stats": False})):
        module = bnn.BatchNorm1d(2, refuse_nonfinite=True, **options).train(training)
        module.track_running_stats = False
        with pytest.raises(ValueError, match=r"refuse_nonfinite.*1 of 2 channels"):
            module(x)


# ------------------------------------------------------------------ half precision


STEPS = 500


def far_batches(dtype, steps=STEPS):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        yield (3 + 2 * torch.randn(64, 2, generator=generator)).to(dtype)


def check_mean_and_variance(module):
    mean, var, _ = (s.float() for s in statistics(module))
    assert (mean - 3).abs().max() < 0.15
    assert (var - 4).abs().max() < 0.3


@EVERY
@pytest.mark.parametrize("momentum", [0.01, None])
def test_bfloat16_statistics_arrive_at_those_of_the_data(name, momentum, kernel):
    module, others = make(name, 2, momentum=momentum)
    module.bfloat16()
    for x in far_batches(torch.bfloat16):
        module(x, *others)
    assert statistics(module)[0].dtype == torch.bfloat16
    check_mean_and_variance(module)


def test_those_of_torch_stall():
    module = nn.BatchNorm1d(2, momentum=0.01).bfloat16()
    for x in far_batches(torch.bfloat16):
        module(x)
    assert (module.running_mean.float() - 3).abs().max() > 0.5


@EVERY
def test_a_layer_made_float32_again_takes_bfloat16_and_does_not_stall(name):
    model = nn.Sequential(make(name, 2, momentum=0.01)[0]).bfloat16()
    for layer in model:
        layer.float()
    others = TRACKING[name][1]
    for x in far_batches(torch.bfloat16):
        assert model[0](x, *others).dtype == torch.bfloat16
    check_mean_and_variance(model[0])
    assert model[0].eval()(x, *others).dtype == torch.bfloat16
    other = make(name, 2)[0].bfloat16()
    other.load_state_dict(model[0].state_dict(), strict=True)
    model[0].load_state_dict(other.state_dict(), strict=True)
    torch.testing.assert_close(statistics(model[0]), statistics(other), check_dtype=False)


def test_what_is_written_into_a_half_precision_buffer_wins():
    module = bnn.BatchNorm1d(2, momentum=0.01).bfloat16()
    *batches, last = far_batches(torch.bfloat16, 30)
    for x in batches:
        module(x)
    fresh = bnn.BatchNorm1d(2, momentum=0.01).bfloat16()
    fresh.load_state_dict(nn.BatchNorm1d(2).bfloat16().state_dict())
    module.load_state_dict(fresh.state_dict())
    module(last)
    fresh(last)
    torch.testing.assert_close(state(module), state(fresh), rtol=0, atol=0)


def test_buffer_of_another_length_wins():
    module = bnn.BatchNorm1d(3, momentum=0.5).bfloat16()
    x = torch.randn(64, 3).bfloat16()
    module(x)
    fresh = bnn.BatchNorm1d(2, momentum=0.5).bfloat16()
    pruned = {k: v[:2] if v.dim() else v for k, v in module.state_dict().items()}
    fresh.load_state_dict(pruned)
    for key in ("running_mean", "running_var"):
        setattr(module, key, pruned[key].clone())
    module.weight, module.bias, module.num_features = fresh.weight, fresh.bias, 2
    module(x[:, :2])
    fresh(x[:, :2])
    torch.testing.assert_close(state(module), state(fresh), rtol=0, atol=0)


def test_failure_leaves_the_unrounded_statistics_as_they_were():
    module = bnn.GhostBatchNorm1d(1, ghost_size=2, momentum=0.01, refuse_nonfinite=True).bfloat16()
    module.running_mean.fill_(1)
    x = torch.tensor([[0.6], [1.6]]).bfloat16()  # a step of 0.001; four make the next bfloat16
    for _ in range(3):
        module(x)
    with pytest.raises(ValueError, match="refuse_nonfinite"):
        module(torch.cat([x, x * torch.nan]))  # when the first ghost batch is stored
    assert module.running_mean == 1
    for _ in range(2):
        module(x)
    assert module.running_mean > 1


def test_copies_of_a_half_precision_layer_go_on_alike():
    module = bnn.BatchNorm1d(2, momentum=0.01).bfloat16()
    *batches, last = far_batches(torch.bfloat16, 30)
    for x in batches:
        module(x)
    made = list(copies(module))
    module(last)
    for other in made:
        other(last)
        torch.testing.assert_close(state(other), state(module), rtol=0, atol=0)


# ------------------------------------------------------------------ empty mini-batches

DROP_INS = ("BatchNorm1d", "SyncBatchNorm", "SplitBatchNorm1d", "MaskedBatchNorm1d")
EMPTY = [(0, 1), (0, 1, 4), (4, 1, 0)]


@pytest.mark.parametrize("name", DROP_INS)
@pytest.mark.parametrize("shape", EMPTY, ids=str)
@pytest.mark.parametrize("first", [True, False], ids=["first", "between"])
def test_empty_mini_batch_is_no_part_of_the_mean_over_all(name, shape, first, kernel):
    module, _ = make(name, 1, momentum=None)
    means = [21.0] if first else [5.0, 21.0]
    for value in means[:-1]:
        module(torch.tensor([[value - 5], [value + 5]]))
    assert module(torch.empty(shape)).shape == shape
    module(torch.tensor([[20.0], [22.0]]))
    mean, _, tracked = statistics(module)
    assert mean.item() == sum(means) / len(means)
    assert tracked == len(means)


@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_empty_mini_batch_with_a_momentum_does_as_torchs(shape, kernel):
    modules = bnn.BatchNorm1d(1), nn.BatchNorm1d(1)
    for module in modules:
        module(torch.empty(shape))
        module(torch.tensor([[20.0], [22.0]]))
    torch.testing.assert_close(*(dict(m.state_dict()) for m in modules))


@pytest.mark.parametrize("name", [n for n in TRACKING if n not in DROP_INS])
def test_relatives_refuse_empty_mini_batches_and_count_none(name):
    module, others = make(name, momentum=None)
    before = state(module)
    with pytest.raises(ValueError, match="expected more than 1 value per channel"):
        module(torch.empty(0, 3), *(other[:0] for other in others))
    torch.testing.assert_close(state(module), before, rtol=0, atol=0)


# ------------------------------------------------------------------ switched later

SWITCHES = {
    "tracking off": {"track_running_stats": False},
    "no buffers": {"running_mean": None, "running_var": None},
    "no buffers, no count": {
        "running_mean": None, "running_var": None, "num_batches_tracked": None,
    },
    "no count": {"num_batches_tracked": None},
    "no count, mean over all": {"num_batches_tracked": None, "momentum": None},
    "mean over all": {"momentum": None},
    "last": {"momentum": 1},
    "frozen": {"momentum": 0.0},
}  # fmt: skip


def outcome(module, *inputs):
    try:
        return module(*inputs).detach()
    except (RuntimeError, ValueError) as error:
        return type(error)


@pytest.mark.parametrize("name", ["BatchNorm1d", "SyncBatchNorm", "GhostBatchNorm1d",
                                  "MaskedBatchNorm1d", "ConditionalBatchNorm1d"])  # fmt: skip
@pytest.mark.parametrize("switch", SWITCHES)
def test_switched_later_does_as_torchs(name, switch, kernel):
    ours, others = make(name)
    if name.startswith("Ghost"):
        ours.ghost_size = 64  # one ghost batch
    peer = nn.BatchNorm1d(3)
    x = 2 + 3 * torch.randn(2, 64, 3)
    for module, more in ((ours, others), (peer, ())):
        module(x[0], *more)
        for attribute, value in SWITCHES[switch].items():
            setattr(module, attribute, value)
    for training in (True, False, True):
        expected = outcome(peer.train(training), x[1])
        got = outcome(ours.train(training), x[1], *others)
        if isinstance(expected, torch.Tensor):
            torch.testing.assert_close(got, expected)
        else:
            assert got is expected
        kept = {k: v for k, v in ours.state_dict().items() if "delta" not in k}
        torch.testing.assert_close(kept, dict(peer.state_dict()))


@pytest.mark.parametrize("name", ["BatchNorm1d", "GhostBatchNorm1d", "MaskedBatchNorm1d"])
def test_tracking_switched_on_without_buffers_does_as_torchs(name, kernel):
    ours, others = make(name, track_running_stats=False)
    peer = nn.BatchNorm1d(3, track_running_stats=False)
    if name.startswith("Ghost"):
        ours.ghost_size = 64
    ours.track_running_stats = peer.track_running_stats = True
    x = torch.randn(64, 3)
    for training in (True, False):
        y = peer.train(training)(x)
        torch.testing.assert_close(ours.train(training)(x, *others), y)


def test_half_of_the_statistics_is_refused_as_torch_refuses_it(kernel):
    modules = bnn.BatchNorm1d(3), nn.BatchNorm1d(3)
    for training in (True, False):
        for module in modules:
            module.running_var = None
        got, expected = (outcome(m.train(training), torch.randn(4, 3)) for m in modules)
        assert got is expected
        assert issubclass(expected, ValueError if training else RuntimeError)


@pytest.mark.parametrize("name", ["BatchRenorm1d", "DecorrelatedBatchNorm1d"])
def test_relatives_that_are_not_tracking_keep_their_statistics(name):
    module, _ = make(name)
    x = torch.randn(64, 3)
    module(x)
    module.track_running_stats = False
    before = state(module)
    module(x)
    torch.testing.assert_close(state(module), before, rtol=0, atol=0)
    other = copy.deepcopy(module)
    other.num_batches_tracked = None
    other.track_running_stats = True
    other(x)
    assert not torch.equal(other.running_mean, module.running_mean)


def test_renormalization_without_statistics_is_refused():
    module = bnn.BatchRenorm1d(3)
    module.running_mean = module.running_var = None
    with pytest.raises(ValueError, match="running_mean, running_var: expected tensors, got None"):
        module(torch.randn(4, 3))


@pytest.mark.parametrize("switch", ["tracking off", "no buffers", "mean over all", "last"])
def test_instance_norm_switched_later_does_as_torchs(switch, kernel):
    options = {"affine": True, "track_running_stats": True}
    ours, peer = bnn.InstanceNorm1d(3, **options), nn.InstanceNorm1d(3, **options)
    x = 2 + 3 * torch.randn(2, 4, 3, 5)
    for module in (ours, peer):
        module(x[0])
        for attribute, value in SWITCHES[switch].items():
            setattr(module, attribute, value)
    for training in (True, False, True):
        expected = outcome(peer.train(training), x[1])
        got = outcome(ours.train(training), x[1])
        if isinstance(expected, torch.Tensor):
            torch.testing.assert_close(got, expected)
        else:
            assert got is expected
        torch.testing.assert_close(dict(ours.state_dict()), dict(peer.state_dict()))


# ------------------------------------------------------------------ errors tell the truth


@pytest.mark.parametrize(
    "name", [n for n in TRACKING if n not in ("BatchNorm1d", "SyncBatchNorm", "BatchRenorm1d")]
)
def test_one_value_in_eval_mode_is_not_said_to_be_training(name):
    module, others = make(name, track_running_stats=False)
    with pytest.raises(ValueError, match=r"expected (more than 1|at least 2)") as caught:
        module.eval()(torch.randn(1, 3), *(other[:1] for other in others))
    assert "training" not in str(caught.value)


def test_masked_batch_norm_without_its_mask_neither():
    module, _, _ = build("MaskedBatchNorm1d", track_running_stats=False)
    with pytest.raises(ValueError, match=r"^input: expected more than 1 value per channel"):
        module.eval()(torch.randn(1, 2))


# ------------------------------------------------------------------ values before rounding


@pytest.mark.parametrize("options", [{"momentum": None}, {"refuse_nonfinite": True}, {}])
def test_statistics_are_float64_again_after_a_time_in_half_precision(options, kernel):
    module = bnn.BatchNorm1d(3, **options).bfloat16()
    module(torch.randn(8, 3, dtype=torch.bfloat16))
    module.double()
    peer = nn.BatchNorm1d(3, momentum=module.momentum).double()
    for buffer in (module.running_mean, module.running_var):
        buffer.fill_(1 / 3)
    peer.load_state_dict(module.state_dict())
    x = torch.randn(8, 3, dtype=torch.float64)
    module(x), peer(x)
    torch.testing.assert_close(
        dict(module.state_dict()), dict(peer.state_dict()), rtol=1e-14, atol=1e-14
    )


def test_a_failure_keeps_the_values_before_rounding(kernel):
    module = bnn.GhostBatchNorm1d(3, ghost_size=4, momentum=0.01, refuse_nonfinite=True).bfloat16()
    x = torch.full((8, 3), 0.5, dtype=torch.bfloat16)
    other = copy.deepcopy(module)
    bad = torch.cat([x, torch.full_like(x, float("nan"))])
    for _ in range(20):  # steps that bfloat16 would round away
        module(x), other(x)
        with pytest.raises(ValueError, match="refuse_nonfinite"):
            module(bad)
    torch.testing.assert_close(dict(module.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_one_statistic_may_be_in_half_precision_and_one_in_float32(half, name, kernel):
    """Which torch refuses."""
    layer, plain = bnn.BatchNorm1d(4).to(half), bnn.BatchNorm1d(4)
    setattr(layer, name, getattr(layer, name).float())
    x = (2 + torch.randn(6, 4)).to(half)
    layer(x), plain(x.float())
    for buffer in ("running_mean", "running_var", "num_batches_tracked"):
        value, expected = getattr(layer, buffer), getattr(plain, buffer)
        torch.testing.assert_close(value.to(expected.dtype), expected, rtol=0.01, atol=0.01)
