"""The layers that torch has not under torch.func, torch.compile and ONNX export."""

import copy

import pytest
import torch
from family_modules import FAMILY, build, state
from torch.func import functional_call, grad, stack_module_state, vmap
from torch_modules import step

from bnlib import nn as bnn

MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
EVERY = pytest.mark.parametrize("name", FAMILY)
UNTRACKED = [
    n for n in FAMILY if "BatchNorm" in n and not n.startswith("Frozen")
]  # those with the option track_running_stats


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def members(name, training, number=3):
    """Layers of an ensemble, a mini-batch for each, and inputs that all share."""
    layers = [build(name)[0].train(training) for _ in range(number)]
    _, shape, others = build(name)
    return layers, torch.randn(number, *shape), others


def cubes(layer, x, others):
    return (layer(x, *others) ** 3).sum()


@EVERY
@MODES
def test_grad_of_functional_call(name, training):
    (module,), (x,), others = members(name, training, 1)
    peer = copy.deepcopy(module)
    buffers = {k: b.clone() for k, b in module.named_buffers()}

    def loss(x, *state):
        return cubes(lambda *v: functional_call(module, state, v), x, others)

    dx, gradients = grad(loss, (0, 1))(x, dict(module.named_parameters()), buffers)
    leaves = {"x": x.requires_grad_(), **dict(peer.named_parameters())}
    expected = torch.autograd.grad(cubes(peer, x, others), leaves.values(), materialize_grads=True)
    close({"x": dx, **gradients}, dict(zip(leaves, expected, strict=True)))
    close(buffers, dict(peer.named_buffers()))


@EVERY
@MODES
def test_vmap_over_an_ensemble(name, training):
    layers, x, others = members(name, training)
    base = copy.deepcopy(layers[0])
    parameters, buffers = stack_module_state(layers)
    y = vmap(lambda p, b, x: functional_call(base, (p, b), (x, *others)))(parameters, buffers, x)
    close(y, torch.stack([m(t, *others) for m, t in zip(layers, x, strict=True)]))
    close(buffers, {k: torch.stack([m.get_buffer(k) for m in layers]) for k in buffers})


@EVERY
@MODES
def test_vmap_of_grad_over_an_ensemble(name, training):
    layers, x, others = members(name, training)
    base = copy.deepcopy(layers[0])

    def loss(x, *state):
        return cubes(lambda *v: functional_call(base, state, v), x, others)

    dx = vmap(grad(loss))(x, *stack_module_state(layers))
    x.requires_grad_()
    total = sum(cubes(m, t, others) for m, t in zip(layers, x, strict=True))
    close(dx, torch.autograd.grad(total, x)[0])


@pytest.mark.parametrize("name", [*UNTRACKED, "BatchRenorm1d", "BatchRenorm2d"])
@pytest.mark.parametrize("inner", [lambda f: f, grad], ids=["forward", "gradient"])
def test_vmap_names_the_buffers_that_it_cannot_update(name, inner):
    module, shape, others = build(name)
    before = state(module)
    with pytest.raises(RuntimeError, match=r"vmap.*running statistics.*track_running_stats=False"):
        vmap(inner(lambda x: cubes(module, x, others)))(torch.randn(3, *shape))
    close(state(module), before)


@pytest.mark.parametrize("name", UNTRACKED)
def test_vmap_over_mini_batches_without_running_statistics(name):
    module, shape, others = build(name, track_running_stats=False)
    x = torch.randn(3, *shape)
    y = vmap(lambda x: module(x, *others))(x)
    close(y, torch.stack([module(t, *others) for t in x]))


def test_vmap_over_classes():
    module, shape, _ = build("ConditionalBatchNorm1d", track_running_stats=False)
    x, classes = torch.randn(3, *shape), torch.randint(3, (3, shape[0]))
    y = vmap(module)(x, classes)
    close(y, torch.stack([module(*pair) for pair in zip(x, classes, strict=True)]))


def test_vmap_takes_no_axis_of_masks():
    module, shape, (mask,) = build("MaskedBatchNorm1d", track_running_stats=False)
    with pytest.raises(RuntimeError, match=r"vmap: .*data-dependent control flow"):
        vmap(module)(torch.randn(3, *shape), mask.expand(3, *mask.shape))


def test_vmap_refuses_no_values():
    module = bnn.BatchNorm1d(2, track_running_stats=False, refuse_nonfinite=True)
    with pytest.raises(RuntimeError, match=r"vmap: .*data-dependent control flow"):
        vmap(module)(torch.randn(3, 4, 2))


def test_mini_batch_of_nan_does_not_reach_the_buffers_of_whitening_under_vmap():
    layers = [bnn.DecorrelatedBatchNorm1d(2, group_size=1) for _ in range(3)]
    x = torch.randn(3, 4, 2)
    x[1, 0, 0] = float("nan")
    parameters, buffers = stack_module_state(layers)
    y = vmap(lambda *v: functional_call(layers[0], v[:2], v[2]))(parameters, buffers, x)
    assert y.isnan().flatten(1).any(1).tolist() == [False, True, False]
    assert buffers["num_batches_tracked"].tolist() == [1, 0, 1]
    assert torch.equal(buffers["running_cov"][1], layers[1].running_cov)


QUIET = pytest.mark.filterwarnings("ignore")  # what the compiler says of itself


def compiled(module):
    module.compile(fullgraph=True, backend="aot_eager")  # in place: names stay as they are
    return module


@EVERY
@MODES
@QUIET
def test_compiles_to_one_graph(name, training):
    (module,), (x,), others = members(name, training, 1)
    peer = copy.deepcopy(module)
    dy = torch.randn_like(peer(x, *others))
    peer.load_state_dict(module.state_dict())
    got = step(compiled(module), x, dy, *others)
    close(got, step(peer, x, dy, *others))


@QUIET
def test_compiled_whitening_refuses_a_poisoned_batch():
    module, shape, _ = build("DecorrelatedBatchNorm1d")
    call = compiled(module)
    call(torch.randn(shape))
    before = state(module)
    with pytest.raises(RuntimeError, match="expected finite values"):
        call(torch.full(shape, float("nan")))
    close(state(module), before)
