"""What all layers that torch has not have in common: derivatives, state, copies, refusals."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call

from bnlib import nn as bnn

FLOAT64 = torch.float64
MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)
CASES = {  # name: constructor arguments, options, shape of an input, other inputs
    "BatchRenorm1d": ((2,), {"r_max": 1.0, "d_max": 0.0}, (4, 2), ()),
    "BatchRenorm2d": ((2,), {"r_max": 1.0, "d_max": 0.0}, (2, 2, 1, 3), ()),
    "BatchRenorm3d": ((2,), {"r_max": 1.0, "d_max": 0.0, "momentum": None}, (2, 2, 1, 1, 3), ()),
    "GhostBatchNorm1d": ((2,), {"ghost_size": 2}, (5, 2), ()),
    "GhostBatchNorm2d": ((2,), {"ghost_size": 1}, (2, 2, 1, 3), ()),
    "GhostBatchNorm3d": ((2,), {"ghost_size": 2}, (3, 2, 1, 1, 2), ()),
    "FrozenBatchNorm1d": ((2,), {}, (3, 2), ()),
    "FrozenBatchNorm2d": ((2,), {}, (2, 2, 1, 2), ()),
    "FrozenBatchNorm3d": ((2,), {}, (2, 2, 1, 1, 2), ()),
    "SplitBatchNorm1d": ((2,), {}, (4, 2), ()),
    "SplitBatchNorm2d": ((2,), {"streams": 3}, (2, 2, 1, 2), ()),
    "SplitBatchNorm3d": ((2,), {}, (2, 2, 1, 1, 2), ()),
    "MaskedBatchNorm1d": ((2,), {}, (3, 2, 4), (MASK,)),
    "ConditionalBatchNorm1d": ((2,), {"num_conditions": 3}, (4, 2), (torch.tensor([2, 0, 2, 1]),)),
    "ConditionalBatchNorm2d": (
        (2,), {"num_conditions": 3}, (2, 2, 1, 3), (torch.linspace(-1, 2, 6).view(2, 3),),
    ),
    "DecorrelatedBatchNorm1d": ((3,), {}, (6, 3), ()),
    "DecorrelatedBatchNorm2d": ((4,), {"group_size": 2}, (3, 4, 1, 2), ()),
    "DecorrelatedBatchNorm3d": ((2,), {"bias": False}, (3, 2, 1, 1, 2), ()),
    "WSConv2d": ((1, 2, (1, 2)), {}, (2, 1, 2, 3), ()),
    "DyT": ((3,), {}, (2, 3), ()),
    "ScaleNorm": (((2, 3),), {}, (2, 2, 3), ()),
}  # fmt: skip
OPTIONAL = {name: case for name, case in CASES.items() if "1d" in name or "BatchNorm2d" in name}


def build(name, dtype=torch.float32, **more):
    """A layer with random parameters and, where it has them, running statistics."""
    args, options, shape, others = CASES[name]
    module = getattr(bnn, name)(*args, **options, **more).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(1, 0.5)
    if name.startswith("Frozen"):
        for buffer in (module.weight, module.bias, module.running_mean, module.running_var):
            buffer.uniform_(0.5, 2)
    return module, shape, others


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def test_every_layer_is_here():
    torchs = {name for name in bnn.__all__ if hasattr(nn, name)}
    layers = {name for name in bnn.__all__ if name[0].isupper()}  # the others are functions
    assert set(CASES) == layers - torchs


@pytest.mark.parametrize("name", CASES)
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


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("training", [True, False])
def test_float32_and_bfloat16_agree_with_float64(name, training, kernel):
    exact, shape, others = build(name, FLOAT64)
    x = torch.randn(shape, dtype=FLOAT64)
    y = exact.train(training)(x, *others)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.15)):
        module = build(name)[0].train(training)
        module.load_state_dict(exact.state_dict())
        if name in ("WSConv2d", "DyT"):  # as torch, they take no mixture
            module.to(dtype)
        result = module(x.to(dtype), *others)
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_state_and_copies(name, kernel):
    module, shape, others = build(name)
    x = torch.randn(shape)
    module(x, *others)
    fresh = build(name)[0]
    fresh.load_state_dict(module.state_dict(), strict=True)
    copies = [fresh, copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    expected = [module(x, *others), state(module), module.eval()(x, *others)]
    for other in copies:
        assert repr(other) == repr(module.train())
        got = [other(x, *others), state(other), other.eval()(x, *others)]
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", CASES)
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


@pytest.mark.parametrize("name", CASES)
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


@pytest.mark.parametrize("name", CASES)
def test_fx_records_one_node(name):
    module, shape, others = build(name)
    model = (ModelOfTwoInputs if others else Model)(module.eval())
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["layer"]
    x = torch.randn(shape)
    torch.testing.assert_close(traced(x, *others), model(x, *others), rtol=0, atol=0)


@pytest.mark.parametrize("name", [n for n in CASES if not n.endswith("3d") and n[0] != "D"])
def test_compiles_as_one_graph(name):
    module, shape, others = build(name)
    peer = copy.deepcopy(module)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    x = torch.randn(shape)
    torch.testing.assert_close(compiled(x, *others), peer(x, *others))
    torch.testing.assert_close(state(module), state(peer))


BAD = {  # what is wrong: axes before the channels, after them, dtype, exception, message
    "axes": ((), (), torch.float32, ValueError, "2D or 3D"),
    "channels": ((4,), (1,), torch.float32, ValueError, "2 channels|3 channels"),
    "integers": ((4,), (), torch.int64, TypeError, "input: expected floating point"),
    "float64": ((4,), (), FLOAT64, TypeError, "input: expected torch.float32 as `weight`"),
    "one value": ((1,), (), torch.float32, ValueError, "expected (more than 1|at least 2)"),
    "empty": ((0,), (), torch.float32, ValueError, "expected (more than 1|at least 2)"),
}


@pytest.mark.parametrize("name", [n for n in CASES if "1d" in n and "Split" not in n])
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
    args = CASES[name][0]
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
