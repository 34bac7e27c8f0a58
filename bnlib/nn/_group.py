"""Group norm on the CPU: the fast path, in Numba's loops where Numba is installed.

Where something watches the single operations, the definition in `_plain` runs instead.
"""

import types

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bnlib.nn import _fused, _layout, _plain


def takes(
    x: Tensor,
    channels: int,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> bool:
    """Whether `group_norm` may normalize `x`; what it may not is for torch to do or to refuse."""
    return (
        x.dim() > 1
        and _fused.takes(x, channels, (weight, bias), (None, None), eps)
        and x.numel() != groups  # one example with one value in each group, which torch refuses
    )


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize each group of channels of each example of `x` (n, c, ...).

    The output has the memory format of `x`. With no values there is nothing to sum up: the
    definition gives the gradients of zeros that the parameters then have.
    """
    watched = _fused.is_watched(x, weight, bias)
    if watched and torch.onnx.is_in_onnx_export():
        return F.group_norm(x, groups, weight, bias, eps)  # what runtimes know as one operation
    if watched or not x.numel():
        return _plain.group_norm(x, groups, weight, bias, eps)
    dtype = _plain.computing_dtype(x)
    values = x.to(dtype).contiguous().view(*x.shape[:2], -1)
    weight, bias = (None if p is None else p.to(dtype) for p in (weight, bias))
    y = GroupNormFunction.apply(values, groups, weight, bias, eps).view(x.shape)
    return _layout.like(y.to(x.dtype), x)


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
            x, dy = x.contiguous(), dy.contiguous()  # hooks may have changed the saved x
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
