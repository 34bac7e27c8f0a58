"""The compiled norms as a function of autograd; the definition gives their second derivatives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bnlib.nn._cpu import definition
from bnlib.nn._cpu.memory_format import contiguous, dense, like


class Passes(NamedTuple):
    """Three functions of one norm, of which the last is differentiable.

    forward(x, weight, bias, eps, *options) -> output, mean, var
    backward(dy, x, weight, mean, var, eps, *options) -> gradients of x, weight and bias
    defined(dy, x, weight, eps, *options) -> the same
    """

    forward: Callable[..., definition.Output]
    backward: Callable[..., definition.Output]
    defined: Callable[..., definition.Output]


class Norm(torch.autograd.Function):
    """Normalize a dense x."""

    @staticmethod
    def forward(
        ctx,
        passes: Passes,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        options: tuple[Any, ...],
        statistics: list[Tensor],
    ) -> Tensor:
        """Return the output, and append mean and variance to `statistics`."""
        eps = float(eps)  # a loop would take a tensor for an address
        y, mean, var = passes.forward(x, contiguous(weight), contiguous(bias), eps, *options)
        ctx.save_for_backward(x, weight)
        ctx.passes, ctx.mean, ctx.var, ctx.eps, ctx.options = passes, mean, var, eps, options
        statistics += mean, var  # autograd would wrap outputs, at a cost
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled() or definition.is_watched(dy, x):
            gradients = ctx.passes.defined(dy, x, weight, ctx.eps, *ctx.options)
        else:
            x = dense(x)  # hooks on saved tensors may have changed its strides
            arrays = like(dy, x), x, contiguous(weight), ctx.mean, ctx.var
            gradients = ctx.passes.backward(*arrays, ctx.eps, *ctx.options)
        pairs = zip(gradients, ctx.needs_input_grad[1:4], strict=True)
        return None, *(g.to(x.dtype) if needed else None for g, needed in pairs), None, None, None
