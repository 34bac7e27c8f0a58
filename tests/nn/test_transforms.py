"""Second derivatives, torch.func, torch.compile, tracing: the same results by every road."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.nn.utils import prune
from torch_modules import CASES, pair, step

from bnlib import nn as bnn

SMALL = {  # as CASES, for derivatives by finite differences
    "BatchNorm1d": ((2,), {}, (4, 2)),
    "BatchNorm2d": ((2,), {"momentum": None}, (2, 2, 1, 3)),
    "InstanceNorm1d": ((2,), {"affine": True}, (2, 2, 3)),
    "GroupNorm": ((2, 4), {}, (2, 4, 3)),
    "LayerNorm": ((3,), {}, (2, 3)),
    "RMSNorm": ((3,), {}, (2, 3)),
}


def as_function(module):
    """The module as a function of its input and parameters."""
    names = [name for name, _ in module.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in module.parameters()]

    def function(x, *values):
        return functional_call(module, dict(zip(names, values, strict=True)), (x,))

    return function, parameters


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("affine", [True, False])
def test_gradients_and_second_derivatives(name, affine, kernel):
    args, options, shape = SMALL[name]
    if not affine:
        key = "elementwise_affine" if name in ("LayerNorm", "RMSNorm") else "affine"
        options = {**options, key: False}
    module, _ = pair(name, *args, **options)
    function, parameters = as_function(module.double())
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x, *parameters))
    assert torch.autograd.gradgradcheck(function, (x, *parameters))


@pytest.mark.parametrize("name", CASES)
def test_gradient_penalty_is_torchs(name, kernel):
    args, options, shape = CASES[name]
    x = torch.randn(shape, dtype=torch.float64)
    results = []
    for module in pair(name, *args, **options):
        leaf = x.clone().requires_grad_()
        y = module.double()(leaf)
        (dx,) = torch.autograd.grad((y**3).sum(), leaf, create_graph=True)
        dx.square().sum().backward()
        results.append([leaf.grad, *(p.grad for p in module.parameters())])
    torch.testing.assert_close(*results, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_grad_of_functional_call(name, kernel):
    args, options, shape = CASES[name]
    x, results = torch.randn(shape), []
    for module in pair(name, *args, **options):
        state = {k: v.detach().clone() for k, v in module.state_dict().items()}

        def loss(x, state=state, module=module):
            fresh = {k: v.clone() for k, v in state.items()}
            return (functional_call(module, fresh, (x,)) ** 3).sum()

        results.append(grad(loss)(x))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_vmap_over_an_ensemble(name, kernel):
    args, options, shape = CASES[name]
    modules = [pair(name, *args, **options)[0] for _ in range(3)]
    base = copy.deepcopy(modules[0])
    x = torch.randn(3, *shape)

    def call(parameters, buffers, x):
        return functional_call(base, (parameters, buffers), (x,))

    parameters, buffers = stack_module_state(modules)
    y = vmap(call)(parameters, buffers, x)
    expected = torch.stack([m(t) for m, t in zip(modules, x, strict=True)])
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    for key, value in buffers.items():
        torch.testing.assert_close(value, torch.stack([m.get_buffer(key) for m in modules]))


def test_vmap_names_the_buffers_that_it_cannot_update():
    module = bnn.BatchNorm2d(3)
    with pytest.raises(RuntimeError, match=r"vmap.*running statistics.*track_running_stats=False"):
        vmap(module)(torch.randn(4, 2, 3, 5, 5))
    assert module.num_batches_tracked == 0
    assert vmap(bnn.BatchNorm2d(3, track_running_stats=False))(torch.randn(4, 2, 3, 5, 5)).ndim == 5


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", CASES)
def test_forward_mode(name, kernel):
    args, options, shape = CASES[name]
    x, dx = torch.randn(2, *shape, dtype=torch.float64)
    results = []
    for module in pair(name, *args, **options):
        module.double().eval()
        results.append(jvp(module, (x,), (dx,))[1])
    torch.testing.assert_close(*results)


def compiled_step(module, x, dy, backend):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler about itself
        return step(torch.compile(module, fullgraph=True, backend=backend), x, dy)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("training", [True, False])
def test_compiles_to_one_graph(name, training, kernel):
    args, options, shape = CASES[name]
    ours, peer = (m.train(training) for m in pair(name, *args, **options))
    x, dy = torch.randn(2, *shape)
    got = compiled_step(ours, x, dy, "aot_eager")
    expected = step(peer, x, dy)
    torch.testing.assert_close(
        {k.removeprefix("_orig_mod.").replace("d_orig_mod.", "d"): v for k, v in got.items()},
        expected,
        rtol=1e-4,
        atol=1e-5,
    )


def test_compiled_cumulative_average_over_several_steps():
    ours, peer = pair("BatchNorm2d", 3, momentum=None)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5)
        torch.testing.assert_close(compiled(x), peer(x))
    torch.testing.assert_close(dict(ours.state_dict()), dict(peer.state_dict()))


def test_compiled_layer_refuses_a_poisoned_batch():
    module = bnn.BatchNorm2d(3, refuse_nonfinite=True)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    compiled(torch.randn(4, 3, 5, 5))
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(RuntimeError, match="refuse_nonfinite"):
        compiled(torch.full((4, 3, 5, 5), float("nan")))
    torch.testing.assert_close(dict(module.state_dict()), dict(before), rtol=0, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_fx_sees_one_node(name):
    args, options, shape = CASES[name]
    module, _ = pair(name, *args, **options)
    traced = torch.fx.symbolic_trace(nn.Sequential(module, nn.ReLU()))
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert calls == ["0", "1"]
    x = torch.randn(shape)
    torch.testing.assert_close(traced.eval()(x), module.eval()(x).relu())


def doubled(cls):
    """A subclass that does something around the forward of `cls`."""

    class Doubled(cls):
        def forward(self, input):
            return 2 * super().forward(input + 1)

    return Doubled


ROWS_AND_GROUPS = ["LayerNorm", "GroupNorm", "RMSNorm"]


@pytest.mark.parametrize("name", CASES)
def test_fx_does_not_record_what_is_around_a_forward_twice(name):
    args, options, shape = CASES[name]
    model = nn.Sequential(doubled(getattr(bnn, name))(*args, **options)).eval()
    if name not in ROWS_AND_GROUPS:  # of which torch's own forward cannot be traced either
        with pytest.raises(NotImplementedError, match=r"torch\.fx: cannot record Doubled"):
            torch.fx.symbolic_trace(model)
        return
    x = torch.randn(shape)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))


HOOKS = {
    "register_forward_hook": lambda module, args, output: 2 * output,
    "register_forward_pre_hook": lambda module, args: (args[0].square(),),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("register", HOOKS)
def test_fx_does_not_record_hooks_twice(name, register):
    args, options, shape = CASES[name]
    model = nn.Sequential(getattr(bnn, name)(*args, **options)).eval()
    getattr(model[0], register)(HOOKS[register])
    x = torch.randn(shape)
    if register == "register_forward_pre_hook" and name not in ROWS_AND_GROUPS:
        with pytest.raises(NotImplementedError, match=r"call bnlib\.nn\.to_torch first"):
            torch.fx.symbolic_trace(model)
        traced = torch.fx.symbolic_trace(bnn.to_torch(copy.deepcopy(model)))
    else:
        traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(x), model(x))


@pytest.mark.parametrize("library", [nn, bnn])
@pytest.mark.parametrize("name", CASES)
def test_fx_leaves_forward_hooks_to_the_node(name, library):
    args, options, shape = CASES[name]
    model, seen = nn.Sequential(getattr(library, name)(*args, **options)), []
    model[0].register_forward_hook(lambda module, args, output: seen.append("first"))
    model[0].register_forward_hook(
        lambda module, args, kwargs, output: seen.append("second"), with_kwargs=True
    )
    traced = torch.fx.symbolic_trace(model)
    assert seen == []
    assert [n.target for n in traced.graph.nodes if n.op != "placeholder"] == ["0", "output"]
    for run in (traced, model):
        run(torch.randn(shape))
        assert seen == ["first", "second"]
        seen.clear()


class CallsForward(nn.Module):
    """Calls the forward of its norm alone, which passes over the hooks."""

    def __init__(self):
        super().__init__()
        self.norm = bnn.BatchNorm1d(3)
        self.norm.register_forward_hook(lambda module, args, output: 2 * output)

    def forward(self, x):
        return self.norm.forward(x)


def test_fx_does_not_add_hooks_that_no_call_has():
    model = CallsForward()
    hooks = dict(model.norm._forward_hooks)
    with pytest.raises(NotImplementedError, match="its forward is called without"):
        torch.fx.symbolic_trace(model)
    assert dict(model.norm._forward_hooks) == hooks


def test_fx_records_a_pruned_layer_as_one_node():
    model = nn.Sequential(bnn.BatchNorm1d(4))
    prune.l1_unstructured(model[0], "weight", 2)
    x = torch.randn(8, 4)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))


@pytest.mark.parametrize("name", ROWS_AND_GROUPS)
def test_fx_traces_a_layer_that_is_the_whole_model(name):
    args, options, shape = CASES[name]
    module, _ = pair(name, *args, **options)
    x = torch.randn(shape)
    torch.testing.assert_close(torch.fx.symbolic_trace(module)(x), module(x))


@pytest.mark.parametrize("name", ["BatchNorm2d", "LayerNorm", "GroupNorm", "RMSNorm"])
def test_other_tracers_record_the_operations(name, kernel):
    args, options, shape = CASES[name]
    module, _ = pair(name, *args, **options)
    x = torch.randn(shape)
    traced = torch.fx.experimental.proxy_tensor.make_fx(copy.deepcopy(module))(x)
    other = torch.randn(shape)
    torch.testing.assert_close(traced(other), module(other))
    exported = torch.export.export(module.eval(), (x,)).module()
    torch.testing.assert_close(exported(other), module(other))


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d", "InstanceNorm1d"])
def test_what_was_traced_in_train_mode_counts_the_values_of_other_input(name):
    args, options, shape = CASES[name]
    ours, peer = pair(name, *args, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(copy.deepcopy(ours), torch.randn(shape), check_trace=False)
    traced.load_state_dict(ours.state_dict())
    x = 5 * torch.randn(2 * shape[0], shape[1], *(2 * length for length in shape[2:]))
    torch.testing.assert_close(traced(x), peer(x))
    torch.testing.assert_close(dict(traced.state_dict()), dict(peer.state_dict()))


def test_checkpointing_and_saved_tensor_hooks(kernel):
    module, _ = pair("BatchNorm2d", 3, track_running_stats=False)
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    dy = torch.randn(4, 3, 5, 5)
    (expected,) = torch.autograd.grad(module(x), x, dy)
    y = torch.utils.checkpoint.checkpoint(module, x, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(y, x, dy)[0], expected)
    with torch.autograd.graph.save_on_cpu():
        y = module(x)
    torch.testing.assert_close(torch.autograd.grad(y, x, dy)[0], expected)


def test_input_changed_in_between_is_noticed(kernel):
    module, _ = pair("BatchNorm2d", 3)
    x = torch.randn(4, 3, 5, 5, requires_grad=True).clone()
    y = module(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_frozen_parameters_and_inputs_without_gradient(kernel):
    ours, peer = pair("BatchNorm2d", 3)
    x, dy = torch.randn(2, 4, 3, 5, 5)
    for module in (ours, peer):
        module.weight.requires_grad_(False)
        module(x).backward(dy)
    torch.testing.assert_close(ours.bias.grad, peer.bias.grad)
    assert ours.weight.grad is None
    with torch.no_grad():
        torch.testing.assert_close(ours(x), peer(x))
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), peer(x))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", [name for name in CASES if name != "InstanceNorm2d"])
def test_exported_program_takes_other_sizes_of_the_mini_batch(name, training, kernel):
    args, options, shape = CASES[name]
    module = pair(name, *args, **options)[0].train(training)
    sizes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (torch.randn(shape),), dynamic_shapes=sizes).module()
    x = torch.randn(7, *shape[1:])
    torch.testing.assert_close(program(x), module(x), rtol=1e-5, atol=1e-5)


def test_rms_norm_takes_input_made_in_inference_mode_as_torchs(kernel):
    args, options, shape = CASES["RMSNorm"]
    with torch.inference_mode():
        x = torch.randn(shape)
    modules = pair("RMSNorm", *args, **options)
    for module in modules:
        module(x).square().sum().backward()
    torch.testing.assert_close(*(m.weight.grad for m in modules), rtol=1e-4, atol=1e-4)
