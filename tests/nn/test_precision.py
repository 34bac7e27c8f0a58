"""Where torch loses digits or lets one mini-batch ruin a model, the drop-ins do not.

The digits are those of Numba's loops and of the definition. Without Numba, torch's own operations
run, and their digits are torch's.
"""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch_modules import CASES, distance, errors, pair, step

from bnlib import nn as bnn

SHAPES = [(64, 300), (6, 16, 25), (13, 5, 14, 14), (8, 16, 14, 14), (2, 3, 80, 90), (2, 3, 4, 5, 6)]
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


FLAGGED = [("BatchNorm1d", (6,)), ("LayerNorm", (6,)), ("RMSNorm", (6,)), ("GroupNorm", (2, 6))]


def batch_norms(shape, **options):
    return pair(f"BatchNorm{max(len(shape) - 2, 1)}d", shape[1], **options)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mean", [0, 100, 1e4])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_float32_is_accurate_to_a_few_ulp(shape, mean, last, loops):
    if last and len(shape) not in FORMATS:
        pytest.skip("no such format")
    ours, peer = batch_norms(shape)
    x, dy = torch.randn(2, *shape)
    x = x * 2 + mean
    if last:
        x = x.contiguous(memory_format=FORMATS[len(shape)])
    exact = step(peer.double(), x.double(), dy.double())
    for name, error in errors(step(ours, x, dy), exact, dy).items():
        assert error < 1e-6, name


@pytest.mark.parametrize("mean", [100, 1e4])
def test_channels_last_statistics_beat_torchs(mean, loops):
    x = (torch.randn(64, 8, 40, 40) + mean).contiguous(memory_format=torch.channels_last)
    exact = x.double().var((0, 2, 3))
    errors = []
    for module in pair("BatchNorm2d", 8, momentum=1.0):
        module(x)
        errors.append(distance(module.running_var, exact))
    assert errors[0] < 3e-7 < errors[1] / 10


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4 + 0.1, -1e10, 1e-20])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_constant_channel_gives_exactly_bias(value, shape, loops):
    ours, _ = batch_norms(shape)
    x = torch.randn(shape)
    x[:, 0] = value
    y = ours(x)[:, 0]
    torch.testing.assert_close(y, ours.bias[0].expand_as(y), rtol=0, atol=0)
    if len(shape) == 4:
        y = ours(x.contiguous(memory_format=torch.channels_last))[:, 0]
        torch.testing.assert_close(y, ours.bias[0].expand_as(y), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["InstanceNorm2d", "LayerNorm", "GroupNorm"])
@pytest.mark.parametrize("value", [0.1, 1e4 + 0.1, -1e10])
def test_constant_example_gives_exactly_bias(name, value, loops):
    args, _, shape = CASES[name]
    ours, _ = pair(name, *args)
    y = ours(torch.full(shape, value))
    expected = torch.zeros(shape) if ours.bias is None else ours.bias.detach()
    if name == "GroupNorm":
        expected = expected[:, None, None]
    torch.testing.assert_close(y, expected.expand_as(y), rtol=0, atol=0)


@pytest.mark.parametrize("outlier", [1e3, 1e6])
def test_an_outlier_in_first_place_costs_no_digits(outlier, kernel):
    x = torch.randn(16, 9, 30, 30)
    x[0, 0, 0, 0] = outlier
    ours, _ = pair("BatchNorm2d", 9, momentum=1.0)
    ours(x)
    assert distance(ours.running_var, x.double().var((0, 2, 3))) < 1e-6


@pytest.mark.parametrize("channels", [3, 9])
def test_first_values_far_from_the_others_cost_no_digits(channels, kernel):
    x = torch.randn(16, channels, 30, 30)
    x[0, 0].view(-1)[:64] += 1e4
    ours, _ = pair("BatchNorm2d", channels, momentum=1.0)
    ours(x)
    assert distance(ours.running_var, x.double().var((0, 2, 3))) < 1e-6


@pytest.mark.parametrize(("name", "args"), [("LayerNorm", (20_000,)), ("GroupNorm", (1, 2))])
def test_rows_whose_first_values_are_far_off_lose_no_digits(name, args, kernel):
    x = torch.randn(3, 2, 10_000)
    x[:, 0, :16] += 1e4
    x = x if name == "GroupNorm" else x.flatten(1)
    ours, peer = pair(name, *args)
    assert distance(ours(x), peer.double()(x.double())) < 3e-6


def test_group_norm_of_channels_last(loops):
    x = (torch.randn(8, 16, 20, 20) + 1e4).contiguous(memory_format=torch.channels_last)
    ours, peer = pair("GroupNorm", 4, 16)
    errors = [distance(m(x), copy.deepcopy(m).double()(x.double())) for m in (ours, peer)]
    assert errors[0] < 1e-6
    assert errors[1] > 1


def test_gradients_of_group_norm_with_a_large_mean(loops):
    ours, peer = pair("GroupNorm", 3, 6)
    x, dy = torch.randn(2, 4, 6, 20)
    x = x + 1e4
    exact = step(peer.double(), x.double(), dy.double())
    for name, error in errors(step(ours, x, dy), exact, dy).items():
        assert error < 1e-6, name


def test_layer_norm_with_a_large_mean(loops):
    ours, peer = pair("LayerNorm", 700)
    x, dy = torch.randn(2, 50, 700)
    x = x + 1e4
    exact = step(peer.double(), x.double(), dy.double())
    for name, error in errors(step(ours, x, dy), exact, dy).items():
        assert error < 1e-6, name


def traced(module, x):
    return torch.jit.trace(module, (x,))(x)


def exported(module, x):
    return torch.export.export(module, (x,)).module()(x)


def made_by_fx(module, x):
    return torch.fx.experimental.proxy_tensor.make_fx(module)(x)(x)


def compiled(module, x):
    return torch.compile(module, backend="aot_eager", fullgraph=True)(x)


def counted(module, x):
    with FlopCounterMode(display=False):
        return module(x)


def differentiated(module, x):
    return torch.func.grad(lambda x: (module(x).sum(), module(x)), has_aux=True)(x)[1]


def vectorized(module, x):
    return torch.func.vmap(module)(x[None])[0]


def pushed_forward(module, x):
    return torch.func.jvp(module, (x,), (x,))[0]


@pytest.mark.filterwarnings("ignore")  # what tracers say of themselves
@pytest.mark.parametrize(
    "way",
    [traced, exported, made_by_fx, compiled, counted, differentiated, vectorized, pushed_forward],
)
@pytest.mark.parametrize(
    ("name", "args", "shape"),
    [("LayerNorm", (300,), (5, 300)), ("GroupNorm", (3, 6), (2, 6, 9, 9)),
     ("BatchNorm2d", (6,), (2, 6, 9, 9)), ("InstanceNorm2d", (6,), (2, 6, 9, 9)),
     ("RMSNorm", (300,), (5, 300))],
)  # fmt: skip
def test_accuracy_where_the_kernels_may_not_run(name, args, shape, way):
    options = {"track_running_stats": False} if name.startswith("Batch") else {}
    ours, peer = pair(name, *args, **options)
    x = torch.randn(shape) + 1e4
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    y = way(ours, x)
    assert distance(y, peer.double()(x.double())) < 1e-6


@pytest.mark.parametrize(
    ("name", "args", "shape"),
    [("LayerNorm", (40,), (5, 40)), ("GroupNorm", (3, 6), (2, 6, 20))],
)
def test_gradients_where_the_kernels_may_not_run(name, args, shape):
    ours, peer = pair(name, *args)
    x, dy = torch.randn(2, *shape)
    x = x + 1e4
    exact = step(peer.double(), x.double(), dy.double())
    with FlopCounterMode(display=False):
        got = step(ours, x, dy)
    for key, value in got.items():
        assert distance(value, exact[key]) < 1e-6, key


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_constant_channel_in_half_precision_gives_exactly_the_bias_in_float32(dtype, loops):
    ours, _ = pair("BatchNorm1d", 6)
    nn.init.constant_(ours.bias, 0.5)
    y = ours(torch.full((7, 6, 20), 1e4, dtype=dtype))
    assert (y == 0.5).all()  # torch's is 0.5 on some processors only


def strided(values):
    """The same values with NaN between them."""
    apart = torch.stack([values.detach(), torch.full_like(values, torch.nan)], dim=1)[:, 0]
    assert not apart.is_contiguous()
    return apart


@pytest.mark.parametrize(
    ("name", "args", "shape"),
    [
        ("BatchNorm1d", (6,), (7, 6)),
        ("BatchNorm1d", (6,), (7, 6, 20)),
        ("LayerNorm", (6,), (7, 6)),
        ("RMSNorm", (6,), (7, 6)),
        ("GroupNorm", (2, 6), (7, 6, 20)),
    ],
)
def test_parameters_may_be_strided(name, args, shape, kernel):
    ours, peer = pair(name, *args)
    exact = copy.deepcopy(peer).double()  # torch's gradient of (m, d) is wrong if they are strided
    for key, value in peer.named_parameters():
        setattr(ours, key, nn.Parameter(strided(value)))
    x, dy = torch.randn(2, *shape)
    wanted = step(exact, x.double(), dy.double())
    for key, error in errors(step(ours, x, dy), wanted, dy).items():
        assert error < 1e-6, key


@pytest.mark.parametrize("tensor", ["weight", "bias", "running_mean", "running_var"])
@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 20), (2, 6, 3, 4)], ids=str)
def test_strided_tensors_in_eval_mode_give_right_gradients(tensor, shape):
    name = f"BatchNorm{max(len(shape) - 2, 1)}d"
    x, dy = torch.randn(2, *shape)
    if len(shape) == 4:
        x, dy = (t.contiguous(memory_format=torch.channels_last) for t in (x, dy))
    peer = getattr(nn, name)(6)
    peer(torch.randn(shape) * 2 + 1)
    nn.init.normal_(peer.weight)
    nn.init.normal_(peer.bias)
    wanted = step(copy.deepcopy(peer).double().eval(), x.double(), dy.double())
    for cls in (getattr(bnn, name), getattr(bnn, f"Frozen{name}")):
        ours = cls(6)
        ours.load_state_dict(peer.state_dict())
        old = getattr(ours, tensor)
        new = strided(old)
        setattr(ours, tensor, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
        for key, error in errors(step(ours.eval(), x, dy), wanted, dy).items():
            assert error < 1e-6, (cls, key)


@pytest.mark.parametrize("tensor", ["running_mean", "running_var"])
def test_conditional_batch_norm_may_have_strided_running_statistics(tensor):
    ours = bnn.ConditionalBatchNorm1d(6, num_conditions=3)
    ours(torch.randn(20, 6) * 2 + 1, torch.arange(20) % 3)
    x, dy, classes = torch.randn(7, 6), torch.randn(7, 6), torch.arange(7) % 3
    wanted = step(copy.deepcopy(ours).double().eval(), x.double(), dy.double(), classes)
    setattr(ours, tensor, strided(getattr(ours, tensor)))
    for key, error in errors(step(ours.eval(), x, dy, classes), wanted, dy).items():
        assert error < 1e-6, key


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_device_of_new_tensors_does_not_matter(name, last, kernel):
    args, options, shape = CASES[name]
    if last and len(shape) not in FORMATS:
        pytest.skip("no such format")
    ours, _ = pair(name, *args, **options)
    x, dy = torch.randn(2, *shape) + 10
    if last:
        x = x.contiguous(memory_format=FORMATS[len(shape)])
    wanted = step(copy.deepcopy(ours), x, dy)
    with torch.device("meta"):
        got = step(ours, x, dy)
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "args"), FLAGGED)
def test_views_that_are_negative_only_by_a_flag(name, args, kernel):
    ours, peer = pair(name, *args)
    x, dy = torch._neg_view(torch.randn(7, 6)), torch._neg_view(torch.randn(7, 6))
    leaf, exact = x.requires_grad_(), (-(-x).double()).detach().requires_grad_()
    y, wanted_y = ours(leaf), peer.double()(exact)
    (dx,) = torch.autograd.grad(y, leaf, dy)
    (wanted_dx,) = torch.autograd.grad(wanted_y, exact, dy.double())
    assert distance(y, wanted_y) < 1e-6
    assert distance(dx, wanted_dx) < 1e-6
    weight = ours.weight.detach()
    positive = torch.func.functional_call(ours, {"weight": -weight}, (x.detach().clone(),))
    flagged = torch.func.functional_call(ours, {"weight": torch._neg_view(weight)}, (x,))
    torch.testing.assert_close(flagged, positive, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "args"), FLAGGED)
def test_gradients_that_are_zero_only_by_a_flag(name, args, kernel):
    if (name, kernel) == ("GroupNorm", "torch"):
        pytest.skip("torch 2.13's own operation reads memory that a flagged zero does not have")
    ours, _ = pair(name, *args)
    zero = torch._efficientzerotensor((7, 6))  # has no memory: a kernel would read address 0
    x = torch.randn(7, 6, requires_grad=True)
    for gradient in torch.autograd.grad(ours(x), [x, *ours.parameters()], zero):
        assert not gradient.any()
    bias = torch.zeros(6) if name == "RMSNorm" else ours.bias
    torch.testing.assert_close(ours(zero), bias.expand(7, 6), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "args", "shape"),
    [("BatchNorm2d", (6,), (4, 6, 3, 5)), ("GroupNorm", (2, 6), (4, 6, 3, 5)),
     ("LayerNorm", (5,), (4, 6, 3, 5)), ("RMSNorm", (5,), (4, 6, 3, 5))],
)  # fmt: skip
def test_hooks_may_give_saved_tensors_back_with_other_strides(name, args, shape, kernel):
    if (name, kernel) == ("GroupNorm", "torch"):
        pytest.skip("torch 2.13's own operation takes the saved input for contiguous")
    ours, _ = pair(name, *args)
    x, dy = torch.randn(2, *shape)
    wanted = step(ours, x, dy)

    def unpack(saved):
        return saved.mT.contiguous().mT if saved.dim() > 1 else saved

    with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, unpack):
        got = step(ours, x, dy)
    for key in ("dx", *(f"d{name}" for name, _ in ours.named_parameters())):
        torch.testing.assert_close(got[key], wanted[key], rtol=1e-5, atol=1e-5)


POISON = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("shape", [(8, 5), (4, 3, 5, 5), (4, 9, 5, 5)], ids=str)
def test_poisoned_batch_is_refused_and_changes_nothing(poison, shape, kernel):
    ours, _ = batch_norms(shape, momentum=0.5)
    ours.refuse_nonfinite = True
    x = torch.randn(shape)
    ours(x)
    before = copy.deepcopy(ours.state_dict())
    x[1, 2] = poison
    with pytest.raises(ValueError, match=r"refuse_nonfinite.*1 of \d+ channels.*\[2\]"):
        ours(x)
    torch.testing.assert_close(dict(ours.state_dict()), dict(before), rtol=0, atol=0)


def test_poisoned_batch_poisons_torch_and_us_by_default(kernel):
    x = torch.randn(4, 3, 5, 5)
    x[0, 1, 0, 0] = float("nan")
    for module in pair("BatchNorm2d", 3):
        y = module(x)
        assert y[:, 1].isnan().all()
        assert not y[:, [0, 2]].isnan().any()
        assert module.running_var.isnan().tolist() == [False, True, False]


def test_overflow_in_half_precision_is_finite_in_float32(kernel):
    x = torch.full((4, 3, 5, 5), 60000.0, dtype=torch.float16)
    x[0] = -60000.0
    y = bnn.BatchNorm2d(3)(x)
    assert y.isfinite().all()
    assert abs(y.float().mean()) < 1e-3


def test_large_values_overflow_as_in_float32_arithmetic(kernel):
    x = torch.tensor([[1e30], [-1e30]]).expand(2, 3).contiguous()
    ours, peer = bnn.BatchNorm1d(3), nn.BatchNorm1d(3)
    assert ours(x).isfinite().all() == peer(x).isfinite().all()
