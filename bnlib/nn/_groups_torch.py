"""Group norm of tensors (n, c, l), put together from the kernels of batch norm.

The statistics are those of a channel per group, (1, n * groups, l); scale and shift are those of a
channel per channel, (1, n * c, l).
"""

import torch
from torch import Tensor

from bnlib.nn import _kernel_torch


def forward(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and in float64 the mean and 1 / sqrt(var + eps) of each group."""
    n, c, _ = x.shape
    mean, var = _kernel_torch.moments(x.view(1, n * groups, -1))
    inv_std = (var + eps).rsqrt()
    near, scale = (s.repeat_interleave(c // groups) for s in (mean, inv_std))
    if weight is not None:
        scale = scale * weight.detach().repeat(n)
    shift = torch.zeros_like(near) if bias is None else bias.detach().double().repeat(n)
    y = _kernel_torch.apply(x.view(1, n * c, -1), near, scale, shift)
    return y.view(x.shape), mean, inv_std


def backward(
    dy: Tensor, x: Tensor, groups: int, weight: Tensor | None, mean: Tensor, inv_std: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias, the last two in float64."""
    n, c, length = x.shape
    mean, inv_std = (s.repeat_interleave(c // groups) for s in (mean, inv_std))
    dy, channels = dy.view(1, n * c, -1), x.view(1, n * c, -1)
    sums = _kernel_torch.gradient_sums(dy, channels, mean)
    dweight, dbias = (sums[1] * inv_std).view(n, c).sum(0), sums[0].view(n, c).sum(0)
    scale = torch.ones_like(mean) if weight is None else weight.detach().double().repeat(n)
    means = (sums * scale).view(2, n * groups, -1).sum(2) / (c // groups * length)
    s, p = means.repeat_interleave(c // groups, dim=1)
    coefficients = torch.stack([inv_std * scale, -p * inv_std**3, -s * inv_std])
    return (
        _kernel_torch.gradient_input(dy, channels, mean, coefficients).view(x.shape),
        dweight,
        dbias,
    )
