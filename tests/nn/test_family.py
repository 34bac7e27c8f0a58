"""What all layers that torch has not have in common: derivatives, state, copies, refusals."""

import copy

import pytest
import torch
from family_modules import FAMILY, build, state
from torch import nn
from torch.func import functional_call
from torch_modules import copies

from bnlib import nn as bnn

FLOAT64 = torch.float64
OPTIONAL = {name: case for name, case in FAMILY.items() if "1d" in name or "BatchNorm2d" in name}


def test_every_layer_is_here():
    torchs = {name for name in bnn.__all__ if hasattr(nn, name)}
    layers = {name for name in bnn.__all__ if name[0].isupper()}  # the others are functions
    assert set(FAMILY) == layers - torchs


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_and_second_derivatives(name, training, kernel):
    module, shape, others = build(name, FLOAT64)
    module.train(training)
    names = [k for k, _ in module.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in module.parameters()]

    def function(x, *parameters):
        given = dict(zip(names, parameters, strict=True))
        return functional_call(module, given, (x, *others))

    x = torch.randn(shape, dtype=FLOAT64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x, *values))
    assert torch.autograd.gradgradcheck(function, (x, *values))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("training", [True, False])
def test_float32_and_bfloat16_agree_with_float64(name, training, kernel):
    exact, shape, others = build(name, FLOAT64)
    x = torch.randn(shape, dtype=FLOAT64)
    y = exact.train(training)(x, *others)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.15)):
        module = build(name)[0].train(training)
        module.load_state_dict(exact.state_dict())
        if name == "WSConv2d":  # as torch, it takes no mixture
            module.to(dtype)
        result = module(x.to(dtype), *others)
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", FAMILY)
def test_state_and_copies(name, kernel):
    module, shape, others = build(name)
    x = torch.randn(shape)
    module(x, *others)
    fresh = build(name)[0]
    fresh.load_state_dict(module.state_dict(), strict=True)
    made = [fresh, *copies(module)]
    expected = [module(x, *others), state(module), module.eval()(x, *others)]
    for other in made:
        assert repr(other) == repr(module.train())
        got = [other(x, *others), state(other), other.eval()(x, *others)]
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", FAMILY)
def test_eval_mode_changes_nothing_and_looks_at_no_other_example(name):
    module, shape, others = build(name)
    x = torch.randn(shape)
    module(x, *others)
    module.eval()
    before = state(module)
    y = module(x, *others)
    torch.testing.assert_close(state(module), before, rtol=0, atol=0)
    first = module(x[:1], *(other[:1] for other in others))
    torch.testing.assert_close(first, y[:1])


@pytest.mark.parametrize("name", FAMILY)
def test_input_is_not_modified_and_may_have_any_strides(name, kernel):
    module, shape, others = build(name)
    x = torch.randn(shape)
    strided = torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2]
    strided.copy_(x)
    other = copy.deepcopy(module)
    torch.testing.assert_close(other(strided, *others), module(x, *others))
    torch.testing.assert_close(strided, x, rtol=0, atol=0)


class Model(nn.Module):
    """A layer in a model."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x + 1)


class ModelOfTwoInputs(Model):
    def forward(self, x, other):
        return self.layer(x + 1, other)


@pytest.mark.parametrize("name", FAMILY)
def test_fx_records_one_node(name):
    module, shape, others = build(name)
    model = (ModelOfTwoInputs if others else Model)(module.eval())
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["layer"]
    x = torch.randn(shape)
    torch.testing.assert_close(traced(x, *others), model(x, *others), rtol=0, atol=0)


BAD = {  # what is wrong: axes before the channels, after them, dtype, exception, message
    "axes": ((), (), torch.float32, ValueError, "2D or 3D"),
    "channels": ((4,), (1,), torch.float32, ValueError, "2 channels|3 channels"),
    "integers": ((4,), (), torch.int64, TypeError, "input: expected floating point"),
    "float64": ((4,), (), FLOAT64, TypeError, "input: expected torch.float32 as `weight`"),
    "one value": ((1,), (), torch.float32, ValueError, "expected (more than 1|at least 2)"),
    "empty": ((0,), (), torch.float32, ValueError, "expected (more than 1|at least 2)"),
}


@pytest.mark.parametrize("name", [n for n in FAMILY if "1d" in n and "Split" not in n])
@pytest.mark.parametrize("bad", BAD)
def test_failed_call_names_what_was_wrong_and_changes_no_buffer(name, bad):
    before_channels, extra, dtype, error, message = BAD[bad]
    if name.startswith("Frozen") and bad in ("one value", "empty"):
        pytest.skip("takes no statistics")
    module, good, others = build(name)
    module(torch.randn(good), *others)
    shape = (*before_channels, good[1] + len(extra))
    if others:
        kind = torch.int64 if name.startswith("Conditional") else torch.bool
        others = (torch.zeros(shape[0], dtype=kind),)
    before = state(module)
    with pytest.raises(error, match=message):
        module(torch.ones(shape).to(dtype), *others)
    torch.testing.assert_close(state(module), before, rtol=0, atol=0)


CONSTRUCTION = {
    "r_max": ("BatchRenorm2d", {"r_max": 0.5}, "r_max: expected at least 1, got 0.5"),
    "r_max NaN": ("BatchRenorm2d", {"r_max": float("nan")}, "r_max"),
    "d_max": ("BatchRenorm2d", {"d_max": -1.0}, "d_max: expected at least 0, got -1"),
    "renorm untracked": ("BatchRenorm2d", {"track_running_stats": False}, "track_running_stats"),
    "ghost_size": ("GhostBatchNorm2d", {"ghost_size": 0}, "ghost_size: expected at least 1"),
    "ghost_size real": ("GhostBatchNorm2d", {"ghost_size": 2.5}, "ghost_size: .* integer"),
    "streams": ("SplitBatchNorm2d", {"streams": 0}, "streams: expected at least 1, got 0"),
    "conditions": ("ConditionalBatchNorm2d", {"num_conditions": 0}, "num_conditions"),
    "plain": ("ConditionalBatchNorm2d", {"num_conditions": 2, "affine": False}, "affine"),
    "group_size": ("DecorrelatedBatchNorm2d", {"group_size": 3}, "divisor of num_features, 4"),
    "group_size 0": ("DecorrelatedBatchNorm2d", {"group_size": 0}, "group_size"),
}


@pytest.mark.parametrize(("name", "options", "message"), CONSTRUCTION.values(), ids=CONSTRUCTION)
def test_constructor_names_what_was_wrong(name, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(bnn, name)(4, **options)


@pytest.mark.parametrize("name", ["WSConv2d", "ScaleNorm"])
def test_eps_must_be_more_than_zero(name):
    args = FAMILY[name][0]
    with pytest.raises(ValueError, match=r"eps: expected more than 0, got 0\.0"):
        getattr(bnn, name)(*args, eps=0.0)


@pytest.mark.parametrize("name", OPTIONAL)
def test_without_running_statistics_eval_mode_takes_those_of_the_batch(name):
    if name.startswith(("BatchRenorm", "Frozen")):
        pytest.skip("always has running statistics")
    module, shape, others = build(name, track_running_stats=False)
    x = torch.randn(shape)
    torch.testing.assert_close(module.eval()(x, *others), module.train()(x, *others))
    assert not [k for k in module.state_dict() if "running" in k or "tracked" in k]


@pytest.mark.parametrize(
    "name",
    [
        "BatchRenorm1d",
        "GhostBatchNorm2d",
        "SplitBatchNorm1d",
        "DecorrelatedBatchNorm3d",
        "ConditionalBatchNorm1d",
        "DyT",
    ],
)
def test_options_are_keyword_only(name):
    with pytest.raises(TypeError, match="positional argument"):
        getattr(bnn, name)(16, 4)


def permuted(shape):
    """Values with the axes in the reverse order in memory: in no memory format of torch."""
    return torch.randn(shape[::-1]).permute(*reversed(range(len(shape))))


LAYOUTS = {
    "contiguous": torch.randn,
    "channels last": lambda shape: torch.randn(shape).contiguous(memory_format=FORMATS[len(shape)]),
    "permuted": permuted,
    "sliced": lambda shape: torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2],
}
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
WIDE = {2: (6, 4), 3: (6, 4, 3), 4: (6, 4, 3, 2), 5: (6, 4, 3, 2, 2)}  # no axis of length 1


@pytest.mark.parametrize("name", [n for n in FAMILY if n not in ("WSConv2d", "ScaleNorm", "DyT")])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_output_is_dense_in_the_memory_format_of_the_input(name, layout, training):
    options = {k: v for k, v in FAMILY[name][1].items() if k != "group_size"}
    axes = len(FAMILY[name][2])
    if layout == "channels last" and axes not in FORMATS:
        pytest.skip("no such format")
    others = {
        "MaskedBatchNorm1d": (torch.ones(6, 3, dtype=torch.bool),),
        "ConditionalBatchNorm1d": (torch.tensor([2, 0, 2, 1, 1, 0]),),
        "ConditionalBatchNorm2d": (torch.randn(6, 3),),
    }.get(name, ())
    x = LAYOUTS[layout](WIDE[axes])
    y = getattr(bnn, name)(4, **options).train(training)(x, *others)
    last = layout == "channels last"
    assert y.is_contiguous(memory_format=FORMATS[axes] if last else torch.contiguous_format)


@pytest.mark.parametrize("name", ["ScaleNorm", "DyT"])
@pytest.mark.parametrize("layout", ["contiguous", "permuted", "sliced"])
def test_output_of_norms_of_the_last_axes_is_dense(name, layout):
    assert getattr(bnn, name)(3)(LAYOUTS[layout]((6, 4, 3))).is_contiguous()


@pytest.mark.parametrize("name", ["ScaleNorm", "DyT"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mixed", [True, False])
def test_output_has_the_dtype_of_the_input(name, dtype, mixed):
    module = getattr(bnn, name)(3)
    x = torch.randn(4, 3)
    y = (module if mixed else module.to(dtype))(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), module.float()(x), rtol=0.02, atol=0.02)
