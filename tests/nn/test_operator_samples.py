"""Torch's own inputs for its operators: a layer with the same arguments does the same."""

import inspect

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.testing._internal.common_methods_invocations import op_db
from torch_modules import step

from bnlib import nn as bnn


def batch_norm(package, input, running_mean, training, momentum, eps, **_):
    cls = getattr(package, f"BatchNorm{max(input.dim() - 2, 1)}d")
    channels = input.shape[1] if input.dim() > 1 else 0
    return cls(channels, eps, momentum, track_running_stats=running_mean is not None).train(
        training
    )


def instance_norm(package, input, running_mean, use_input_stats, momentum, eps, **_):
    cls = getattr(package, f"InstanceNorm{input.dim() - 2}d")
    tracks = running_mean is not None
    return cls(input.shape[1], eps, momentum, True, tracks).train(use_input_stats)


def group_norm(package, input, num_groups, eps, **_):
    return package.GroupNorm(num_groups, input.shape[1] if input.dim() > 1 else 1, eps)


def layer_norm(package, normalized_shape, eps, **_):
    return package.LayerNorm(normalized_shape, eps)


def rms_norm(package, normalized_shape, eps, **_):
    return package.RMSNorm(normalized_shape, eps)


OPERATORS = {  # name: the function that has the arguments of the samples, the layer for them
    "nn.functional.batch_norm": (F.batch_norm, batch_norm),
    "nn.functional.instance_norm": (F.instance_norm, instance_norm),
    "nn.functional.group_norm": (F.group_norm, group_norm),
    "nn.functional.layer_norm": (F.layer_norm, layer_norm),
    "native_layer_norm": (F.layer_norm, layer_norm),  # more of them: a bias without a weight
    "nn.functional.rms_norm": (F.rms_norm, rms_norm),
}
INFOS = {i.name: i for i in op_db if i.name in OPERATORS and not i.variant_test_name}
ROUNDING = {  # relative to the largest value: what is allowed where torch happens to be exact
    torch.float64: 1e-13,
    torch.float32: 1e-6,
    torch.float16: 2 * torch.finfo(torch.float16).eps,
    torch.bfloat16: 2 * torch.finfo(torch.bfloat16).eps,
}
SAMPLES = {  # how many of them there are, and how many of these no layer can take
    "nn.functional.batch_norm": (12, 2),
    "nn.functional.instance_norm": (9, 0),
    "nn.functional.group_norm": (33, 0),
    "nn.functional.layer_norm": (6, 0),
    "native_layer_norm": (20, 0),
    "nn.functional.rms_norm": (6, 0),
}


def arguments_of(name, sample):
    """All arguments of the function by name, and the tensors among them detached."""
    function = OPERATORS[name][0]
    bound = inspect.signature(function).bind(sample.input, *sample.args, **sample.kwargs)
    bound.apply_defaults()
    return {
        key: value.detach().clone() if isinstance(value, torch.Tensor) else value
        for key, value in bound.arguments.items()
    }


def no_layer_takes(arguments):
    """Batch norm of numbers without an axis of channels; a test shows that torch refuses it."""
    return "training" in arguments and arguments["input"].dim() < 2


def samples(name, dtype):
    for sample in INFOS[name].reference_inputs("cpu", dtype):
        arguments = arguments_of(name, sample)
        if not no_layer_takes(arguments):
            yield arguments


def build(name, package, arguments):
    """The layer of a package that has these arguments; the input is left over."""
    layer = OPERATORS[name][1](package, **arguments)
    for key in ("weight", "bias"):
        if key in arguments:
            value = arguments[key]
            setattr(layer, key, None if value is None else nn.Parameter(value.clone()))
    for key in ("running_mean", "running_var"):
        if arguments.get(key) is not None:
            setattr(layer, key, arguments[key].clone())
    return layer


def step_of_function(function, arguments, dy, dtype):
    """As `step` of a layer, with torch's function and copies of its arguments."""
    arguments = {
        key: value.to(dtype, copy=True) if isinstance(value, torch.Tensor) else value
        for key, value in arguments.items()
    }
    leaves = {k: arguments.get(k) for k in ("input", "weight", "bias")}
    leaves = {k: v.requires_grad_() for k, v in leaves.items() if v is not None}
    y = function(**arguments)
    gradients = torch.autograd.grad(y, leaves.values(), dy.to(dtype))
    names = ["d" + key.replace("input", "x") for key in leaves]
    state = {
        k: arguments[k] for k in ("running_mean", "running_var") if arguments.get(k) is not None
    }
    return {"y": y.detach(), **dict(zip(names, gradients, strict=True)), **state}


@pytest.mark.parametrize("name", OPERATORS)
def test_number_of_samples(name):
    arguments = [arguments_of(name, s) for s in INFOS[name].reference_inputs("cpu", torch.float64)]
    assert (len(arguments), sum(map(no_layer_takes, arguments))) == SAMPLES[name]


def test_samples_that_are_left_out_are_refused_by_torchs_layer_too():
    name = "nn.functional.batch_norm"
    for sample in INFOS[name].reference_inputs("cpu", torch.float32):
        arguments = arguments_of(name, sample)
        if no_layer_takes(arguments):
            for package in (bnn, nn):
                with pytest.raises(ValueError, match="expected 2D or 3D input"):
                    build(name, package, arguments)(arguments["input"])


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_layer_is_as_close_to_float64_as_the_operator(name, dtype, kernel):
    assert dtype in INFOS[name].supported_dtypes("cpu")
    function = OPERATORS[name][0]
    for arguments in samples(name, dtype):
        x = arguments["input"]
        dy = torch.randn(x.shape, dtype=dtype)
        layer = step(build(name, bnn, arguments), x, dy)
        peer, exact = (step_of_function(function, arguments, dy, t) for t in (dtype, torch.float64))
        for key, value in exact.items():
            assert layer[key].dtype == peer[key].dtype
            assert layer[key].shape == value.shape
            allowed = max(error(peer[key], value), ROUNDING[dtype] * size(value, arguments))
            assert error(layer[key], value) <= allowed, (key, arguments)


def error(got, exact):
    return float((got.double() - exact).abs().sum())


def size(exact, arguments):
    if arguments["input"].numel() == 1:  # gradients of 0, left over from terms of this size
        return (arguments["eps"] or 1.0) ** -0.5
    return 1 + float(exact.abs().sum())


@pytest.mark.parametrize("name", [n for n in OPERATORS if INFOS[n].error_inputs_func])
def test_bad_input_ends_as_in_torchs_layer(name):
    for bad in INFOS[name].error_inputs("cpu"):
        arguments = arguments_of(name, bad.sample_input)
        with pytest.raises(bad.error_type, match=bad.error_regex):
            OPERATORS[name][0](**arguments)
        errors = [outcome(name, package, arguments) for package in (bnn, nn)]
        assert isinstance(errors[1], Exception)
        assert type(errors[0]) is type(errors[1])
        assert str(errors[0]) == str(errors[1])


def outcome(name, package, arguments):
    try:
        return build(name, package, arguments)(arguments["input"])
    except Exception as error:
        return error
