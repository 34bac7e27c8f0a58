"""Group norm on the CPU: the fast path, put together from the kernels of batch norm.

The statistics are those of a channel per group, (1, n * groups, ...); scale and shift are those
of a channel per channel, (1, n * c, ...).
"""

import torch
from torch import Tensor

from bnlib.nn import _fused, _plain


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize each group of channels of each example of `x` (n, c, ...), contiguous."""
    dtype = _plain.computing_dtype(x)
    values = x.to(dtype).view(*x.shape[:2], -1)
    weight, bias = (None if p is None else p.to(dtype) for p in (weight, bias))
    return GroupNormFunction.apply(values, groups, weight, bias, eps).view(x.shape).to(x.dtype)


class GroupNormFunction(torch.autograd.Function):
    """Normalize the groups of (n, c, l); the second derivative comes from `_plain`."""

    @staticmethod
    def forward(
        ctx, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        n, c, _ = x.shape
        kernel = _fused.kernel()
        mean, var = kernel.moments(x.view(1, n * groups, -1))
        mean, inv_std = (s.repeat_interleave(c // groups) for s in (mean, (var + eps).rsqrt()))
        scale = inv_std if weight is None else inv_std * weight.detach().repeat(n)
        shift = torch.zeros_like(mean) if bias is None else bias.detach().double().repeat(n)
        y = kernel.apply(x.view(1, n * c, -1), mean, scale, shift)
        ctx.save_for_backward(x, weight, mean, inv_std)
        ctx.groups, ctx.eps = groups, eps
        return y.view(x.shape)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inv_std = ctx.saved_tensors
        if torch.is_grad_enabled() or _fused.is_watched(dy, x):
            gradients = _plain.group_norm_backward(dy, x, ctx.groups, weight, ctx.eps)
        else:
            gradients = _backward(dy.contiguous(), x, ctx.groups, weight, mean, inv_std)
        dx, *parameters = (
            g.to(x.dtype) if needs else None
            for g, needs in zip(gradients, (True, *ctx.needs_input_grad[2:4]), strict=True)
        )
        return dx, None, *parameters, None


def _backward(
    dy: Tensor, x: Tensor, groups: int, weight: Tensor | None, mean: Tensor, inv_std: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    n, c, length = x.shape
    kernel = _fused.kernel()
    dy, channels = dy.view(1, n * c, -1), x.view(1, n * c, -1)
    sums = kernel.gradient_sums(dy, channels, mean)
    dweight, dbias = (sums[1] * inv_std).view(n, c).sum(0), sums[0].view(n, c).sum(0)
    scale = torch.ones_like(mean) if weight is None else weight.detach().double().repeat(n)
    means = (sums * scale).view(2, n * groups, -1).sum(2) / (c // groups * length)
    s, p = means.repeat_interleave(c // groups, dim=1)
    coefficients = torch.stack([inv_std * scale, -p * inv_std**3, -s * inv_std])
    return kernel.gradient_input(dy, channels, mean, coefficients).view(x.shape), dweight, dbias
