"""Layer norm and RMS norm on the CPU: the fast path, and when it is taken.

Layer norm runs in Numba's loops where Numba is installed, else in torch's own kernel. RMS norm,
which torch puts together from single operations, runs in those loops or in the operations below.
Where something watches the single operations, the definition in `_plain` runs instead.
"""

import types

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bnlib.nn import _fused, _layout, _plain


def takes(
    x: Tensor, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float
) -> bool:
    """Whether `normalize_rows` may normalize `x`; what it may not is for torch to do or refuse."""
    dtypes = (x.dtype, _plain.computing_dtype(x))
    return (
        x.is_cpu
        and x.dtype in _plain.FLOATS
        and x.layout is torch.strided
        and not x.is_nested
        and 0 < len(shape) <= x.dim()
        and x.shape[-len(shape) :] == shape
        and x.numel() > 0
        and eps > 0
        and all(
            p is None or (p.is_cpu and p.shape == shape and p.dtype in dtypes)
            for p in (weight, bias)
        )
    )


def normalize_rows(
    x: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    center: bool,
) -> Tensor:
    """Normalize over the last axes, of the given shape: layer norm, or RMS norm if not `center`.

    The output of layer norm is contiguous, as torch's is; that of RMS norm has the memory format
    of `x`.
    """
    x = x.contiguous() if center else x
    watched = _fused.is_watched(x, weight, bias)
    if center and (torch.onnx.is_in_onnx_export() if watched else not _fused.has_numba()):
        return F.layer_norm(x, shape, weight, bias, eps)  # ONNX has an operator for it
    if watched:
        return _plain.row_norm(x, shape, weight, bias, eps, center)
    dtype = _plain.computing_dtype(x)
    weight, bias = (None if p is None else p.to(dtype).reshape(-1) for p in (weight, bias))
    width = x[(0,) * (x.dim() - len(shape))].numel()
    rows = x.to(dtype).contiguous().view(-1, width)
    y = RowNormFunction.apply(rows, weight, bias, eps, center)[0].view(x.shape)
    return _layout.like(y.to(x.dtype), x)


class RowNormFunction(torch.autograd.Function):
    """Normalize the rows of (r, d); the second derivative comes from `_plain`."""

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, center: bool
    ) -> tuple[Tensor, ...]:
        y, mean, inv_std = _kernel().forward(x, weight, bias, eps, center)
        ctx.save_for_backward(x, weight, mean, inv_std)
        ctx.eps, ctx.center = eps, center
        return (y,)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inv_std = ctx.saved_tensors
        if torch.is_grad_enabled() or _fused.is_watched(dy, x):
            gradients = _plain.row_norm_backward(dy, x, weight, ctx.eps, ctx.center)
        else:
            x, dy = x.contiguous(), dy.contiguous()  # hooks may have changed the saved x
            gradients = _kernel().backward(dy, x, weight, mean, inv_std, ctx.center)
        needed = zip(gradients, ctx.needs_input_grad, strict=False)
        return *(g.to(x.dtype) if needs else None for g, needs in needed), None, None


def _kernel() -> types.ModuleType:
    if _fused.has_numba():
        from bnlib.nn import _rows_numba as kernel
    else:
        from bnlib.nn import _rows_torch as kernel
    return kernel
