"""Group norm on the CPU: the fast path, in Numba's loops where Numba is installed."""

import types

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
        y, mean, inv_std = _kernel().forward(x, groups, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, inv_std)
        ctx.groups, ctx.eps = groups, eps
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inv_std = ctx.saved_tensors
        if torch.is_grad_enabled() or _fused.is_watched(dy, x):
            gradients = _plain.group_norm_backward(dy, x, ctx.groups, weight, ctx.eps)
        else:
            dy = dy.contiguous()
            gradients = _kernel().backward(dy, x, ctx.groups, weight, mean, inv_std)
        dx, *parameters = (
            g.to(x.dtype) if needs else None
            for g, needs in zip(gradients, (True, *ctx.needs_input_grad[2:4]), strict=True)
        )
        return dx, None, *parameters, None


def _kernel() -> types.ModuleType:
    if _fused.has_numba():
        from bnlib.nn import _groups_numba as kernel
    else:
        from bnlib.nn import _groups_torch as kernel
    return kernel
