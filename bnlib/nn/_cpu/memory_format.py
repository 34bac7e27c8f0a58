"""The one rule for strides: outputs are dense, in the memory format of the input."""

import itertools

import torch
from torch import Tensor

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def dense(x: Tensor) -> Tensor:
    """`x` itself if it is contiguous in one of torch's memory formats, else a copy that is."""
    last = FORMATS.get(x.dim())
    if x.is_contiguous() or (last is not None and x.is_contiguous(memory_format=last)):
        return x
    return like(x, x)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of `x` (n, c, h, w) or (n, c, d, h, w) are its fastest axis.

    As torch does, this looks past gaps: a crop of channels_last images is channels_last.
    """
    if x.is_contiguous() or x.dim() not in FORMATS:
        return False
    last = x.movedim(1, -1)
    strides = last.stride()
    ordered = all(a >= b for a, b in itertools.pairwise(strides)) and strides[-1] > 0
    return last.is_contiguous() or ordered


def is_batched(x: Tensor) -> bool:
    """Whether `x` is a batch of `vmap`, also inside of `grad`."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x) and not functorch.is_batchedtensor(x):
        x = functorch.get_unwrapped(x)
    return functorch.is_batchedtensor(x)


def like(y: Tensor, x: Tensor) -> Tensor:
    """`y`, of the shape of `x`, dense and in the memory format of `x`: itself or a copy, no view.

    Autograd forbids to change views in place that were made under ``no_grad``.
    """
    if not is_channels_last(x):
        return y.contiguous()
    last = y.movedim(1, -1)
    if last.is_contiguous():
        return y
    if torch._C._are_functorch_transforms_active():  # `vmap` does not know ``memory_format=``
        return last.contiguous().movedim(-1, 1)
    return y.contiguous(memory_format=FORMATS[y.dim()])


def shaped(y: Tensor, shape: torch.Size) -> Tensor:
    """`y`, which nobody else has, in another shape: its memory, but no view; see `like`."""
    return torch.ops.aten._unsafe_view.default(y, shape)


def contiguous(parameter: Tensor | None) -> Tensor | None:
    """`parameter` itself if it is contiguous, or None, else a copy that is."""
    return None if parameter is None else parameter.contiguous()
