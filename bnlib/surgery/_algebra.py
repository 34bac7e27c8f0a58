"""Write a scale and a shift of each channel into the weight and the bias of a linear layer."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from bnlib.surgery._modules import has_statistics

OWN_FORWARD = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
PROBE_TOLERANCE = 1e-6  # of the largest value; a batch norm may compute in float32


class NotExactError(Exception):
    """The change would alter what the model computes; the message says why."""


def scale_and_shift(batch_norm: nn.Module, dims: int) -> tuple[Tensor, Tensor]:
    """Return the scale and the shift (d,), in float64, that a batch norm applies in eval mode."""
    if batch_norm.training:
        raise NotExactError("it is in train mode, where it depends on the mini-batch: call eval()")
    if not has_statistics(batch_norm):
        raise NotExactError("it has no running statistics and depends on the mini-batch")
    mean, var = batch_norm.running_mean.double(), batch_norm.running_var.double()
    scale = (var + batch_norm.eps).rsqrt()
    if batch_norm.weight is not None:
        scale = scale * batch_norm.weight.detach().double()
    shift = -mean * scale
    if batch_norm.bias is not None:
        shift = shift + batch_norm.bias.detach().double()
    if not (scale.isfinite().all() and shift.isfinite().all()):
        raise NotExactError("its running statistics or parameters are not finite")
    _check_probe(batch_norm, scale, shift, dims)
    return scale, shift


def _check_probe(batch_norm: nn.Module, scale: Tensor, shift: Tensor, dims: int) -> None:
    """Refuse a batch norm that does more than scale and shift, such as one with an activation."""
    if batch_norm._forward_hooks or batch_norm._forward_pre_hooks:
        raise NotExactError("it has forward hooks, which would be lost")
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(4, len(scale), *[2] * (dims - 2), generator=generator, dtype=torch.float64)
    probe = probe.to(scale.device)
    expected = probe * _along(scale, dims) + _along(shift, dims)
    try:
        with torch.no_grad():
            result = copy.deepcopy(batch_norm).double()(probe)
    except Exception as error:
        raise NotExactError(f"it fails on an input with {dims} axes: {error}") from error
    if not (result - expected).abs().max() <= PROBE_TOLERANCE * expected.abs().max():
        raise NotExactError("in eval mode it is not a scale and a shift of each channel")


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
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise NotExactError(f"{name} has forward hooks, which would see other values")
    if layer.weight.is_complex() or not layer.weight.is_floating_point():
        raise NotExactError(f"{name} has weights of type {layer.weight.dtype}")


def _bound(kind: type, attribute: str, layer: nn.Module) -> object:
    function = getattr(kind, attribute, None)
    return function and function.__get__(layer)


def check_axes(layer: nn.Module, name: str, dims: int) -> None:
    """Refuse an input whose axis 1, the channels of the batch norm, is another axis to the layer.

    A linear layer has its features on the last axis, an unbatched convolution on the first.
    """
    if dims != (layer.weight.dim() if isinstance(layer, _ConvNd) else 2):
        raise NotExactError(
            f"its channels are axis 1 of {dims} axes, which is another axis to {name}"
        )


def fold_after(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Make the layer compute ``scale * layer(x) + shift``, which is exact for every layer."""
    weight = layer.weight.detach().double()
    if isinstance(layer, _ConvTransposeNd):  # (in, out / groups, ...), group after group
        grouped = weight.unflatten(0, (layer.groups, -1))
        factor = _along(scale.view(layer.groups, 1, -1), grouped.dim())
        weight = (grouped * factor).flatten(0, 1)
    else:  # (out, in / groups, ...)
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    bias = shift if layer.bias is None else shift + scale * layer.bias.detach().double()
    _set(layer, weight, bias)


def fold_before(layer: nn.Module, scale: Tensor, shift: Tensor, name: str) -> None:
    """Make the layer compute ``layer(scale * x + shift)``; refuse where the border forbids it."""
    if shift.any():
        _check_border(layer, name)
    weight = layer.weight.detach().double()
    if isinstance(layer, nn.Linear):
        added = weight @ shift
        weight = weight * scale
    else:  # scale and shift the input channels of each group
        grouped = weight.unflatten(0, (layer.groups, -1))
        transposed = isinstance(layer, _ConvTransposeNd)
        shape = (layer.groups, -1, 1) if transposed else (layer.groups, 1, -1)
        taps = grouped.flatten(3).sum(3)  # (groups, in, out) if transposed, else (groups, out, in)
        added = (taps * shift.view(shape)).sum(1 if transposed else 2).flatten()
        weight = (grouped * _along(scale.view(shape), grouped.dim())).flatten(0, 1)
    bias = added if layer.bias is None else added + layer.bias.detach().double()
    _set(layer, weight, bias)


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
