"""Batch normalization of a mini-batch: the fast path, and when it is taken.

On plain CPU tensors an autograd function calls the kernels of `_kernel_numba`, or those of
`_kernel_torch` where Numba is not installed. Wherever something watches the single operations
(``torch.compile``, export, ``torch.func``, batched gradients, forward mode, tensor subclasses) the
definition in `_plain` runs instead. The second derivative always comes from `_plain`.
"""

import contextlib
import functools
import os
import types

import torch
from torch import Tensor

from bnlib.nn import _kernel_torch, _layout, _plain
from bnlib.nn._plain import FLOATS, HALVES

PLAIN_TYPES = (Tensor, torch.nn.Parameter)
FORKED: list[bool] = []  # not empty in a process that was forked from one with Numba's threads
Output = tuple[Tensor, Tensor, Tensor]


@functools.cache
def kernel() -> types.ModuleType:
    """Return the fastest kernel that is installed; ``BNLIB_KERNEL=torch`` refuses Numba."""
    if os.environ.get("BNLIB_KERNEL") != "torch" and not FORKED:
        with contextlib.suppress(ImportError):
            from bnlib.nn import _kernel_numba

            return _kernel_numba
    return _kernel_torch


def _after_fork() -> None:
    """Numba's threads do not survive a fork, and a process that calls them would be ended."""
    if kernel.cache_info().currsize and has_numba():
        FORKED.append(True)
        kernel.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def has_numba() -> bool:
    """Whether the compiled kernels are in use."""
    return kernel() is not _kernel_torch


def is_watched(first: Tensor, *others: Tensor | None) -> bool:
    """Whether a kernel that torch does not see would go wrong on these tensors.

    `first` is the input, or in the backward pass the gradient of the output, which
    ``is_grads_batched=True`` makes a batch of gradients, and forward mode a zero without memory.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch.autograd.forward_ad._current_level >= 0
        or any(
            t is not None and (type(t) not in PLAIN_TYPES or not t.is_cpu or t.is_neg())
            for t in (first, *others)
        )
        or torch._C._functorch.is_legacy_batchedtensor(first)
        or first._is_zerotensor()
    )


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    watched: bool | None = None,
) -> Output:
    """Normalize each channel (axis 1) of `x` by its own mean and biased variance.

    Parameters
    ----------
    x : Tensor, (n, c, ...)
        Of floating point, not empty.
    weight, bias : Tensor (c,), optional
        Scale and shift, of the dtype of x; beside float16 and bfloat16 they may be float32.
    eps : float
        Added to the variance.
    watched : bool, optional
        What `is_watched` says of these tensors, if the caller has asked.

    Returns
    -------
    y : Tensor, shape, dtype and memory format of x
    mean, var : Tensor, (c,)
        Batch mean and biased variance, without gradient: float64 on the fast path, else in the
        precision of the computation.
    """
    if is_watched(x, weight, bias) if watched is None else watched:
        return _plain.batch_norm(x, weight, bias, eps)
    if x.dtype in HALVES:
        weight, bias = (None if p is None else p.float() for p in (weight, bias))
        y, mean, var = batch_norm(x.float(), weight, bias, eps, watched=False)
        return y.to(x.dtype), mean, var
    statistics: list[Tensor] = []
    y = BatchNormFunction.apply(_layout.dense(x), weight, bias, eps, statistics)
    return y, *statistics


class BatchNormFunction(torch.autograd.Function):
    """The fast path: kernels forward and backward, `_plain` for the second derivative."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        statistics: list[Tensor],
    ) -> Tensor:
        y, mean, var = kernel().forward(x, weight, bias, eps)
        ctx.save_for_backward(x, weight)
        ctx.mean, ctx.var, ctx.eps = mean, var, eps
        statistics += mean, var  # autograd would wrap outputs, at a cost
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled() or is_watched(dy, x):
            gradients = _plain.batch_norm_backward(dy, x, weight, ctx.eps)
        else:
            x = _layout.dense(x)  # hooks on saved tensors may have changed its strides
            dy = _layout.like(dy, x)
            gradients = kernel().backward(dy, x, weight, ctx.mean, ctx.var, ctx.eps)
        pairs = zip(gradients, ctx.needs_input_grad, strict=False)
        return *(gradient if needed else None for gradient, needed in pairs), None, None


def takes(
    x: Tensor,
    channels: int,
    parameters: tuple[Tensor | None, Tensor | None],
    running: tuple[Tensor | None, Tensor | None],
    eps: float,
) -> bool:
    """Whether dtypes, devices and channels are such as the kernels and the definition take.

    What does not fit is for torch to do or to refuse.
    """
    dtypes = (x.dtype, _plain.computing_dtype(x))
    return (
        (x.is_cpu or x.is_meta)
        and x.layout is torch.strided
        and not x.is_nested
        and x.dtype in FLOATS
        and x.shape[1] == channels
        and eps > 0
        and (running[0] is None) == (running[1] is None)
        and all(
            t is None or (t.device == x.device and t.dtype in dtypes and t.shape == (channels,))
            for t in (*parameters, *running)
        )
    )
