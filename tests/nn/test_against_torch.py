"""The drop-ins do what torch's classes do: torch's own inputs, steps of training, state."""

import copy
import inspect

import pytest
import torch
from torch import nn
from torch.testing._internal.common_modules import module_db
from torch_modules import CASES, copies, errors, pair, step

from bnlib import nn as bnn

INFOS = {i.module_cls.__name__: i for i in module_db if i.module_cls.__name__ in bnn.__all__}
TOLERANCE = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-11},
    torch.float32: {"rtol": 1e-4, "atol": 2e-5},
}
HALF = (torch.float16, torch.bfloat16)


def samples(dtypes):
    for name, info in INFOS.items():
        for training in (True, False):
            for dtype in dtypes:
                yield pytest.param(info, training, dtype, id=f"{name}-{training}-{dtype}")


def steps_on_samples(info, training, dtype):
    """Torch's sample inputs through a drop-in, through torch's class, and in float64."""
    for sample in info.module_inputs_func(info, "cpu", dtype, True, training):
        arguments = sample.constructor_input
        ours, peer = pair(info.module_cls.__name__, *arguments.args, **arguments.kwargs)
        (x,) = sample.forward_input.args
        modules = [m.to(dtype).train(training) for m in (ours, peer, copy.deepcopy(peer))]
        modules[2].load_state_dict(modules[0].state_dict())
        modules[2].double()
        dy = torch.linspace(-1, 2, x.numel(), dtype=dtype).view(x.shape)
        inputs = x, x, x.double()
        yield sample, dy, *(step(m, t, dy) for m, t in zip(modules, inputs, strict=True))


def test_every_class_of_torch_has_its_samples():
    assert set(INFOS) == set(CASES)


@pytest.mark.parametrize(("info", "training", "dtype"), list(samples(TOLERANCE)))
def test_torchs_own_samples(info, training, dtype, kernel):
    for sample, _, ours, peer, _ in steps_on_samples(info, training, dtype):
        message = f"{sample.desc}: {{}}".format
        torch.testing.assert_close(ours, peer, **TOLERANCE[dtype], msg=message)


@pytest.mark.parametrize(("info", "training", "dtype"), list(samples(HALF)))
def test_torchs_own_samples_in_half_precision(info, training, dtype, kernel):
    for sample, dy, ours, peer, exact in steps_on_samples(info, training, dtype):
        for name, value in ours.items():
            assert value.dtype == peer[name].dtype
        torchs = errors(peer, exact, dy)
        for name, error in errors(ours, exact, dy).items():
            assert error <= max(torchs[name], 2 * torch.finfo(dtype).eps), (sample.desc, name)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_steps_of_training_and_evaluation(name, dtype, kernel):
    args, options, shape = CASES[name]
    modules = [m.to(dtype) for m in pair(name, *args, **options)]
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in modules if list(m.parameters())]
    for number in range(5):
        x, dy = 2 + 3 * torch.randn(2, *shape, dtype=dtype)
        for module in modules:
            module.train(number != 3)
        torch.testing.assert_close(*(step(m, x, dy) for m in modules), **TOLERANCE[dtype])
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("name", CASES)
def test_constructor_is_torchs(name):
    ours = inspect.signature(getattr(bnn, name)).parameters
    peer = inspect.signature(getattr(nn, name)).parameters
    extra = [p for p in ours if p not in peer]
    assert extra == (["refuse_nonfinite"] if "Batch" in name else [])
    for parameter in peer.values():
        assert ours[parameter.name].kind == parameter.kind
        assert ours[parameter.name].default == parameter.default
    assert [p for p in ours if p not in extra] == list(peer)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("bias", [True, False])
def test_attributes_and_repr_are_torchs(name, bias):
    args, options, _ = CASES[name]
    if "bias" in inspect.signature(getattr(nn, name)).parameters:
        options = {**options, "bias": bias}
    ours, peer = pair(name, *args, **options, dtype=torch.float64)
    assert repr(ours) == repr(peer)
    assert isinstance(ours, getattr(nn, name))
    public = {k for k in vars(peer) if not k.startswith("_")}
    assert public <= set(vars(ours))
    for key in public:
        assert getattr(ours, key) == getattr(peer, key)


@pytest.mark.parametrize("name", CASES)
def test_state_goes_both_ways(name):
    args, options, shape = CASES[name]
    ours, peer = pair(name, *args, **options)
    peer(torch.randn(shape))
    ours.load_state_dict(peer.state_dict(), strict=True)
    torch.testing.assert_close(dict(ours.state_dict()), dict(peer.state_dict()), rtol=0, atol=0)
    assert list(ours.state_dict()) == list(peer.state_dict())


def test_state_saved_before_batches_were_counted():
    ours, peer = pair("BatchNorm2d", 3)
    old = {k: v for k, v in peer.state_dict().items() if k != "num_batches_tracked"}
    ours.load_state_dict(old, strict=True)
    assert ours.num_batches_tracked == 0


@pytest.mark.parametrize("name", CASES)
def test_copies_are_independent_and_equal(name, kernel):
    args, options, shape = CASES[name]
    module, _ = pair(name, *args, **options)
    x, dy = torch.randn(2, *shape)
    step(module, x, dy)
    made = list(copies(module))
    expected = step(module, x, dy)
    for other in made:
        assert type(other) is type(module)
        torch.testing.assert_close(step(other, x, dy), expected, rtol=0, atol=0)


def test_output_keeps_channels_last(kernel):
    for shape, memory_format in (
        ((4, 3, 5, 5), torch.channels_last),
        ((4, 3, 2, 5, 5), torch.channels_last_3d),
    ):
        x = torch.randn(shape).contiguous(memory_format=memory_format).requires_grad_()
        y = getattr(bnn, f"BatchNorm{len(shape) - 2}d")(3)(x)
        assert y.is_contiguous(memory_format=memory_format)
        (dx,) = torch.autograd.grad(y, x, torch.randn(shape))
        assert dx.is_contiguous(memory_format=memory_format)
        assert bnn.GroupNorm(1, 3)(x).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("view", ["transposed", "sliced", "expanded"])
def test_any_strides(view, kernel):
    x = {
        "transposed": torch.randn(6, 5, 4, 3).transpose(1, 3),
        "sliced": torch.randn(6, 3, 4, 10)[..., ::2],
        "expanded": torch.randn(6, 3, 4, 1).expand(6, 3, 4, 5),
    }[view]
    ours, peer = pair("BatchNorm2d", 3)
    dy = torch.randn(()).expand(x.shape)
    torch.testing.assert_close(step(ours, x, dy), step(peer, x, dy), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_layer_norm_of_nested_tensors(layout):
    ours, peer = pair("LayerNorm", 4)
    parts = [torch.randn(2, 4), torch.randn(3, 4)]
    got, wanted = (m(torch.nested.nested_tensor(parts, layout=layout)) for m in (ours, peer))
    for part, expected in zip(got.unbind(), wanted.unbind(), strict=True):
        torch.testing.assert_close(part, expected)


def test_input_is_not_modified(kernel):
    x = torch.randn(4, 3, 5, 5)
    before = x.clone()
    ours, _ = pair("BatchNorm2d", 3)
    ours(x.requires_grad_()).sum().backward()
    torch.testing.assert_close(x.detach(), before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_under_autocast(dtype, kernel):
    nets = [nn.Sequential(nn.Conv2d(3, 4, 3), m, nn.ReLU()) for m in pair("BatchNorm2d", 4)]
    nets[1][0].load_state_dict(nets[0][0].state_dict())
    x, results = torch.randn(4, 3, 6, 6), []
    for net in nets:
        with torch.autocast("cpu", dtype=dtype):
            y = net(x)
        assert y.dtype == dtype
        y.float().square().sum().backward()
        results.append([y, *(p.grad for p in net.parameters()), *net.buffers()])
    torch.testing.assert_close(*results, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", CASES)
def test_eps_may_be_a_tensor(name, kernel):
    args, options, shape = CASES[name]
    ours, peer = pair(name, *args, **options)
    ours.eps = peer.eps = torch.tensor(0.1)
    x, dy = torch.randn(2, *shape)
    torch.testing.assert_close(step(ours, x, dy), step(peer, x, dy), rtol=1e-4, atol=2e-5)
