"""How the kernels see a tensor: rows (n, c, l) or columns (m, c), and what they share."""

import torch
from torch import Tensor


def dense(x: Tensor) -> Tensor:
    """`x` itself if it is contiguous in one of torch's memory formats, else a copy that is."""
    x = x.resolve_neg()
    if x.is_contiguous() or is_channels_last(x):
        return x
    return x.contiguous()


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of `x` (n, c, h, w) or (n, c, d, h, w) lie next to each other."""
    return memory_format(x) is not torch.contiguous_format


def memory_format(x: Tensor) -> torch.memory_format:
    """Return the memory format of `x`; inside of `vmap`, contiguous is the only one known."""
    if x.is_contiguous() or is_batched(x):
        return torch.contiguous_format
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    if x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d):
        return torch.channels_last_3d
    return torch.contiguous_format


def is_batched(x: Tensor) -> bool:
    """Whether `x` is a batch of `vmap`, also inside of `grad`."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x) and not functorch.is_batchedtensor(x):
        x = functorch.get_unwrapped(x)
    return functorch.is_batchedtensor(x)


def like(dy: Tensor, x: Tensor) -> Tensor:
    """`dy`, dense, in the memory format of `x`."""
    return dy.resolve_neg().contiguous(memory_format=memory_format(x))


def contiguous(parameter: Tensor | None) -> Tensor | None:
    """`parameter` itself if it is contiguous, or None, else a copy that is."""
    return None if parameter is None else parameter.contiguous()


def view(x: Tensor) -> Tensor:
    """View a dense `x` as (n, c, l), contiguous, or (m, c) where channels lie side by side."""
    n, c = x.shape[:2]
    if x.numel() == n * c:
        return x.view(n, c)
    if x.is_contiguous():
        return x.view(n, c, -1)
    return x.movedim(1, -1).view(-1, c)


def scale_and_shift(
    var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return float64 `scale`, `shift` with y = (x - mean) * scale + shift; all (c,)."""
    scale = (var + eps).rsqrt_()
    if weight is not None:
        scale *= weight.detach()
    shift = torch.zeros_like(scale) if bias is None else bias.detach().double()
    return scale, shift


def coefficients(
    sums: Tensor, count: int, var: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the three coefficients of the input's gradient, (3, c), and the weight's gradient.

    `sums` (2, c) holds the sums of dy and of dy (x - mean), `count` the number of values that
    each goes over. The gradient is a dy + b (x - mean) + c0 with coefficients a, b, c0.
    """
    inv_std = (var + eps).rsqrt_()
    a = inv_std if weight is None else inv_std * weight.detach()
    dweight = sums[1] * inv_std
    return torch.stack([a, -a * dweight * inv_std / count, -a * sums[0] / count]), dweight
