"""Write a scale and a shift of each channel into the weight and the bias of a linear layer."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from bnlib.nn.decorrelated_batch_norm import _DecorrelatedBatchNorm
from bnlib.nn.frozen_batch_norm import _FrozenBatchNorm
from bnlib.nn.split_batch_norm import _SplitBatchNorm
from bnlib.surgery._family import TOLERANCE, holds_running_mean, of_many_sizes
from bnlib.surgery._modules import LINEAR_LAYERS, hooks_of

OWN_FORWARD = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
NOT_FINITE = "its running statistics or parameters are not finite"


class NotExactError(Exception):
    """The change would alter what the model computes; the message says why."""


def is_running_norm(module: nn.Module) -> bool:
    """Return whether the module is a batch norm, a relative of it, or holds a running mean.

    A model that holds one, to normalize its input, say, has layers inside and is no norm.
    """
    if _is_in_family(module):
        return True
    inside = (child for child in module.modules() if child is not module)
    return holds_running_mean(module) and not any(
        _is_in_family(child) or isinstance(child, LINEAR_LAYERS) for child in inside
    )


def _is_in_family(module: nn.Module) -> bool:
    batch_norm = isinstance(module, _NormBase) and not isinstance(module, _InstanceNorm)
    return batch_norm or isinstance(module, _SplitBatchNorm)


def named_running_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Return the outermost norms for which `is_running_norm` holds, under their first names."""
    found: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if is_running_norm(module) and module not in inside:
            found[name] = module
            inside.update(module.modules())
    return found


@dataclass
class ChannelMap:
    """What a norm computes in eval mode: a fixed map of the channels of each position.

    Attributes
    ----------
    scale : Tensor, (d,) or (d, d)
        A factor of each channel, or a matrix that mixes them; in float64.
    shift : Tensor, (d,)
        What is added; in float64.
    behind : list of Module
        What the norm applies to the result: the activation of a "batch norm with activation".
    """

    scale: Tensor
    shift: Tensor
    behind: list[nn.Module]


def channel_map(norm: nn.Module, dims: int) -> ChannelMap:
    """Return what a norm computes on an input of `dims` axes, and check it on random numbers."""
    mean = norm.running_mean.double()
    weight, bias = (
        None if parameter is None else parameter.detach().double()
        for parameter in (norm.weight, norm.bias)
    )
    if isinstance(norm, _DecorrelatedBatchNorm):
        scale = torch.block_diag(*norm._whitening(norm.running_cov))
        scale = scale if weight is None else weight[:, None] * scale
        shift = -scale @ mean
    else:
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        scale = scale if weight is None else weight * scale
        shift = -mean * scale
    shift = shift if bias is None else shift + bias
    if not (scale.isfinite().all() and shift.isfinite().all()):
        raise NotExactError(NOT_FINITE)
    children = [child for child in norm.children() if not isinstance(child, nn.Identity)]
    for behind in ([], children):
        if _agrees(norm, found := ChannelMap(scale, shift, behind), dims):
            return found
    names = " and ".join(type(child).__name__ for child in children)
    raise NotExactError(
        "in eval mode it is not a scale and a shift of each channel"
        + (f", followed by {names}" if names else "")
    )


def check_norm(norm: nn.Module) -> None:
    """Refuse a norm that is no fixed map of its input, or not known to be one."""
    if isinstance(norm, torch.jit.ScriptModule):
        raise NotExactError("it is a ScriptModule, whose code is fixed: fold before scripting")
    if isinstance(norm, _SplitBatchNorm):
        raise NotExactError(
            "it holds a batch norm for each stream, and the stream is chosen at each call: "
            "put the one that is meant, streams[s], in its place"
        )
    if getattr(norm, "running_mean", None) is None:
        raise NotExactError("it has no running statistics and depends on the mini-batch")
    if norm.training and isinstance(norm, _NormBase) and not isinstance(norm, _FrozenBatchNorm):
        raise NotExactError("it is in train mode, where it depends on the mini-batch: call eval()")
    if hooks := hooks_of(norm):
        raise NotExactError(f"it has {' and '.join(hooks)}, which would be lost")
    if others := _further_inputs(norm):
        raise NotExactError(f"its output depends on a further input: {', '.join(others)}")
    variance = "running_cov" if isinstance(norm, _DecorrelatedBatchNorm) else "running_var"
    needed = ("weight", "bias", "running_mean", variance, "eps")
    if missing := [name for name in needed if not hasattr(norm, name)]:
        raise NotExactError(f"it is no batch norm that is known: it has no {', '.join(missing)}")
    if not all(getattr(norm, name).isfinite().all() for name in ("running_mean", variance)):
        raise NotExactError(NOT_FINITE)


def _further_inputs(norm: nn.Module) -> list[str]:
    """Return the names of the arguments that a norm needs besides its input."""
    _, *others = inspect.signature(norm.forward).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in others if p.default is p.empty and p.kind not in variadic]


def _agrees(norm: nn.Module, found: ChannelMap, dims: int) -> bool:
    """Return whether a norm does what was found, and no more, by outputs of many sizes."""
    target = of_many_sizes((4, len(found.shift), *[2] * (dims - 2))).to(found.shift.device)
    shift = _along(found.shift, dims)
    if found.scale.dim() == 1:
        scale = _along(found.scale, dims)
        probe = (target - shift) / torch.where(scale == 0, 1, scale)
        scaled = probe * scale
    else:
        probe = _mix(torch.linalg.pinv(found.scale), target - shift, 1)
        scaled = _mix(found.scale, probe, 1)
    try:
        with torch.no_grad():
            result = copy.deepcopy(norm).double()(probe)
            expected = copy.deepcopy(nn.Sequential(*found.behind)).double()(scaled + shift)
    except Exception as error:
        raise NotExactError(f"it fails on an input with {dims} axes: {error}") from error
    if result.shape != expected.shape:
        return False
    largest = torch.maximum(scaled.abs().max(), expected.abs().max())
    return bool((result - expected).abs().max() <= TOLERANCE * largest)


def check_layer(layer: nn.Module, name: str) -> None:
    """Refuse a layer that does not compute what its weight and bias say."""
    kind = next((base for base in OWN_FORWARD if isinstance(layer, base)), None)
    own = kind and type(layer).forward is kind.forward
    if not own or getattr(layer, "_conv_forward", None) != _bound(kind, "_conv_forward", layer):
        raise NotExactError(f"{name} ({type(layer).__name__}) has a forward of its own")
    if parametrize.is_parametrized(layer):
        raise NotExactError(
            f"{name} has parametrized weights: call "
            "torch.nn.utils.parametrize.remove_parametrizations first"
        )
    if "weight" not in layer._parameters:
        raise NotExactError(
            f"the weight of {name} is computed from other parameters, as by the old "
            "torch.nn.utils.weight_norm or by pruning: call remove_weight_norm, "
            "remove_spectral_norm or prune.remove first"
        )
    if hooks := hooks_of(layer):
        raise NotExactError(f"{name} has {' and '.join(hooks)}, which would see other values")
    if layer.weight.is_complex() or not layer.weight.is_floating_point():
        raise NotExactError(f"{name} has weights of type {layer.weight.dtype}")


def _bound(kind: type, attribute: str, layer: nn.Module) -> object:
    function = getattr(kind, attribute, None)
    return function and function.__get__(layer)


def feature_axis(layer: nn.Module, dims: int) -> int:
    """Return which of `dims` axes holds the channels of a layer's input and output.

    A linear layer has its features on the last axis, a convolution has its channels before the
    spatial axes.
    """
    return dims - (layer.weight.dim() - 1 if isinstance(layer, _ConvNd) else 1)


def fold_after(layer: nn.Module, scale: Tensor, shift: Tensor, name: str) -> None:
    """Make the layer compute ``scale * layer(x) + shift``, or ``scale @ layer(x) + shift``."""
    weight = layer.weight.detach().double()
    bias = layer.bias if layer.bias is None else layer.bias.detach().double()
    transposed = isinstance(layer, _ConvTransposeNd)
    if scale.dim() == 2:
        _check_one_group(layer, name)
        weight = _mix(scale, weight, 1 if transposed else 0)
        bias = shift if bias is None else shift + scale @ bias
        _set(layer, weight, bias)
        return
    if transposed:  # (in, out / groups, ...), group after group
        grouped = weight.unflatten(0, (layer.groups, -1))
        factor = _along(scale.view(layer.groups, 1, -1), grouped.dim())
        weight = (grouped * factor).flatten(0, 1)
    else:  # (out, in / groups, ...)
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    _set(layer, weight, shift if bias is None else shift + scale * bias)


def fold_before(layer: nn.Module, scale: Tensor, shift: Tensor, name: str) -> None:
    """Make the layer compute ``layer(scale * x + shift)``; refuse where the border forbids it."""
    if shift.any():
        _check_border(layer, name)
    weight = layer.weight.detach().double()
    transposed = isinstance(layer, _ConvTransposeNd)
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    grouped = weight.unflatten(0, (groups, -1))  # (groups, out, in, ...), transposed: in, out
    taps = grouped.sum(tuple(range(3, grouped.dim()))) if grouped.dim() > 3 else grouped
    shape = (groups, -1, 1) if transposed else (groups, 1, -1)
    added = (taps * shift.view(shape)).sum(1 if transposed else 2).flatten()
    if scale.dim() == 2:
        _check_one_group(layer, name)
        weight = _mix(scale.T, weight, 0 if transposed else 1)
    else:
        weight = (grouped * _along(scale.view(shape), grouped.dim())).flatten(0, 1)
    bias = added if layer.bias is None else added + layer.bias.detach().double()
    _set(layer, weight, bias)


def _check_one_group(layer: nn.Module, name: str) -> None:
    if getattr(layer, "groups", 1) > 1:
        raise NotExactError(f"it mixes channels, and {name} has {layer.groups} groups of them")


def _mix(matrix: Tensor, values: Tensor, axis: int) -> Tensor:
    """Multiply the vectors along one axis by a matrix."""
    return torch.tensordot(matrix, values, ([1], [axis])).movedim(0, axis)


def _check_border(layer: nn.Module, name: str) -> None:
    """Refuse where some outputs see fewer inputs than others, so that the shift is no constant."""
    if isinstance(layer, _ConvTransposeNd):
        one_tap = all(k == s == 1 for k, s in zip(layer.kernel_size, layer.stride, strict=True))
        if not one_tap or any(layer.output_padding):
            raise NotExactError(
                f"it shifts the input of the transposed convolution {name}, whose outputs see "
                "different numbers of inputs: the shift is not the same at every place"
            )
    elif isinstance(layer, _ConvNd) and layer.padding_mode == "zeros" and any(_padding(layer)):
        raise NotExactError(
            f"it shifts the input of {name}, which is padded with zeros after the shift: "
            "at the border the shift is missing (exact without padding, or with the padding "
            "modes 'reflect', 'replicate' and 'circular')"
        )


def _padding(layer: _ConvNd) -> tuple[int, ...]:
    """Return the padding in numbers; "valid" is none, "same" depends on the kernel."""
    if layer.padding == "valid":
        return (0,)
    if layer.padding == "same":
        return tuple(size - 1 for size in layer.kernel_size)
    return tuple(layer.padding)


def _along(values: Tensor, dims: int) -> Tensor:
    """Append axes of length 1; (d,) becomes (1, d, 1, ...)."""
    values = values[None] if values.dim() == 1 else values
    return values.reshape(*values.shape, *[1] * (dims - values.dim()))


def _set(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Store new parameters with the type and the memory layout of the old weight."""
    old = layer.weight
    layer.weight = nn.Parameter(torch.empty_like(old).copy_(weight), old.requires_grad)
    dtype = old.dtype if layer.bias is None else layer.bias.dtype
    layer.bias = nn.Parameter(bias.to(dtype), old.requires_grad)
