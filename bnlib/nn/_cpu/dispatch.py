"""Which way a norm is computed on the CPU.

Where something watches the single operations (``torch.compile``, export, ``torch.func``, batched
gradients, forward mode, tensor subclasses), by the definition. Else in the compiled loops where
Numba is installed, and by torch's own operation where it is not.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bnlib.nn._cpu import definition, memory_format
from bnlib.nn._cpu.autograd import Norm, Passes
from bnlib.nn._cpu.definition import FLOATS, HALVES, Output, computing_dtype, is_watched

Parameter = Tensor | None


class Kernel(Protocol):
    """Norms of plain, dense float32 or float64 tensors without a graph, as `kernel` has them.

    Parameters are contiguous and have the dtype of `x`. A forward pass returns the output, and in
    float64 the mean and the biased variance of all that is normalized together; a backward pass
    the gradients of x, weight and bias. Their arguments are ``x, weight, bias, eps`` and
    ``dy, x, weight, mean, var, eps``, and an option.
    """

    forward: Callable[[Tensor, Parameter, Parameter, float], Output]  # of x (n, c, ...)
    backward: Callable[[Tensor, Tensor, Parameter, Tensor, Tensor, float], Output]

    # Of x (r, d). The option is `center`; without, the mean is 0 and var the mean square.
    last_axis_forward: Callable[[Tensor, Parameter, Parameter, float, bool], Output]
    last_axis_backward: Callable[[Tensor, Tensor, Parameter, Tensor, Tensor, float, bool], Output]

    # Of x (n, c, l). The option is the number of groups; statistics are (n * groups,).
    group_forward: Callable[[Tensor, Parameter, Parameter, float, int], Output]
    group_backward: Callable[[Tensor, Tensor, Parameter, Tensor, Tensor, float, int], Output]

    # The parts of `forward` and `backward`, between which processes add up what they have.
    moments: Callable[[Tensor], tuple[Tensor, Tensor]]
    apply: Callable[[Tensor, Tensor, Tensor, Parameter, Parameter, float], Tensor]
    gradient_sums: Callable[[Tensor, Tensor, Tensor], Tensor]
    gradient_input: Callable[
        [Tensor, Tensor, Parameter, Tensor, Tensor, float, Tensor, int], Tensor
    ]

    # Of running mean, running variance and count, at once.
    track: Callable[[Output, Tensor, Tensor, float, float], None]


_chosen = os.environ.get("BNLIB_KERNEL", "numba")  # "torch" refuses Numba
_forked = False  # from a process with Numba's threads, which do not survive it


@functools.cache
def _compiled() -> Kernel | None:
    with contextlib.suppress(ImportError):
        from bnlib.nn._cpu import kernel

        return kernel
    return None


def kernel() -> Kernel | None:
    """Return the compiled kernel, or None where Numba is missing, refused or lost in a fork."""
    return None if _chosen == "torch" or _forked else _compiled()


@contextlib.contextmanager
def use_kernel(name: str) -> Iterator[None]:
    """Compute in Numba's loops ("numba") or by torch's operations ("torch"), in all threads."""
    global _chosen
    if name not in ("numba", "torch"):
        raise ValueError(f"name: expected 'numba' or 'torch', got {name!r}")
    before, _chosen = _chosen, name
    try:
        if name == "numba" and kernel() is None:
            raise RuntimeError("use_kernel: Numba is not installed, or lost in a fork")
        yield
    finally:
        _chosen = before


def _after_fork() -> None:
    """Numba's threads do not survive a fork, and a process that calls them would be ended."""
    global _forked
    _forked = _compiled.cache_info().currsize > 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def batch_norm(
    x: Tensor, weight: Parameter, bias: Parameter, eps: float, watched: bool | None = None
) -> Output:
    """Normalize each channel (axis 1) of `x` by its own mean and biased variance.

    Parameters
    ----------
    x : Tensor, (n, c, ...)
        Of floating point, with more than one value per channel.
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
        Batch mean and biased variance, without gradient: float64, from the definition in the
        precision of the computation.
    """
    if is_watched(x, weight, bias) if watched is None else watched:
        return definition.batch_norm(x, weight, bias, eps)
    compiled = kernel()
    if compiled is None:
        return _batch_norm_of_torch(x, weight, bias, eps)
    if x.dtype in HALVES:
        weight, bias = (None if p is None else p.float() for p in (weight, bias))
        y, mean, var = batch_norm(x.float(), weight, bias, eps, watched=False)
        return y.to(x.dtype), mean, var
    passes = Passes(compiled.forward, compiled.backward, definition.batch_norm_backward)
    statistics: list[Tensor] = []
    y = Norm.apply(passes, memory_format.dense(x), weight, bias, eps, (), statistics)
    return y, *statistics


def standardize(x: Tensor, eps: float) -> Output:
    """Do the same without parameters, for the relatives of batch norm, which torch has not.

    Where nothing is compiled this is the definition, as accurate as the loops.
    """
    return batch_norm(x, None, None, eps, watched=is_watched(x) or kernel() is None)


def _batch_norm_of_torch(x: Tensor, weight: Parameter, bias: Parameter, eps: float) -> Output:
    """Run torch's operation, with running statistics of its own to read those of `x` from.

    Momentum times the unbiased variance, which torch stores, is the biased one for (m - 1) / m.
    """
    mean, var = x.new_zeros(2, x.shape[1], dtype=computing_dtype(x))
    weight, bias = (None if p is None else p.to(mean.dtype).contiguous() for p in (weight, bias))
    momentum = 1 - x.shape[1] / x.numel()
    y = F.batch_norm(memory_format.dense(x), mean, var, weight, bias, True, momentum, eps)
    return memory_format.like(y, x), mean.double() / momentum, var.double()


def takes(
    x: Tensor,
    channels: int,
    parameters: tuple[Parameter, Parameter],
    running: tuple[Parameter, Parameter],
    eps: float,
) -> bool:
    """Whether `batch_norm` may normalize `x`; what does not fit is for torch to do or to refuse."""
    dtypes = (x.dtype, computing_dtype(x))
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


def last_axis_norm(
    x: Tensor,
    shape: tuple[int, ...],
    weight: Parameter,
    bias: Parameter,
    eps: float,
    *,
    center: bool,
) -> Tensor:
    """Normalize over the last axes, of the given shape: layer norm, or RMS norm if not `center`.

    The output of layer norm is contiguous, as torch's is; that of RMS norm has the memory format
    of `x`.
    """
    x = x.contiguous() if center else x
    watched, compiled = is_watched(x, weight, bias), kernel()
    if center and (torch.onnx.is_in_onnx_export() if watched else compiled is None):
        return F.layer_norm(x, shape, weight, bias, eps)  # ONNX has an operator for it
    if watched:
        return definition.row_norm(x, shape, weight, bias, eps, center)
    if compiled is None:
        return memory_format.like(F.rms_norm(x, shape, weight, eps).to(x.dtype), x)
    if not center and x.is_inference() and torch.is_grad_enabled():  # torch saves no such tensor
        x = x.clone()
    dtype = computing_dtype(x)
    weight, bias = (None if p is None else p.to(dtype).reshape(-1) for p in (weight, bias))
    width = x[(0,) * (x.dim() - len(shape))].numel()
    rows = x.to(dtype).contiguous().view(-1, width)
    functions = compiled.last_axis_forward, compiled.last_axis_backward
    passes = Passes(*functions, definition.row_norm_backward)
    y = Norm.apply(passes, rows, weight, bias, eps, (center,), [])
    return memory_format.like(memory_format.shaped(y, x.shape).to(x.dtype), x)


def takes_last_axis(
    x: Tensor, shape: tuple[int, ...], weight: Parameter, bias: Parameter, eps: float
) -> bool:
    """Whether `last_axis_norm` may normalize `x`."""
    dtypes = (x.dtype, computing_dtype(x))
    return (
        x.is_cpu
        and x.dtype in FLOATS
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


def group_norm(x: Tensor, groups: int, weight: Parameter, bias: Parameter, eps: float) -> Tensor:
    """Normalize each group of channels of each example of `x` (n, c, ...).

    The output has the memory format of `x`. With no values there is nothing to sum up: the
    definition gives the gradients of zeros that the parameters then have.
    """
    watched, compiled = is_watched(x, weight, bias), kernel()
    if watched and torch.onnx.is_in_onnx_export():
        return F.group_norm(x, groups, weight, bias, eps)  # what runtimes know as one operation
    if watched or not x.numel():
        return definition.group_norm(x, groups, weight, bias, eps)
    if compiled is None:
        return memory_format.like(F.group_norm(x, groups, weight, bias, eps), x)
    dtype = computing_dtype(x)
    values = x.to(dtype).contiguous().view(*x.shape[:2], -1)
    weight, bias = (None if p is None else p.to(dtype) for p in (weight, bias))
    functions = compiled.group_forward, compiled.group_backward
    passes = Passes(*functions, definition.group_norm_backward)
    y = Norm.apply(passes, values, weight, bias, eps, (groups,), [])
    return memory_format.like(memory_format.shaped(y, x.shape).to(x.dtype), x)


def takes_groups(
    x: Tensor, channels: int, groups: int, weight: Parameter, bias: Parameter, eps: float
) -> bool:
    """Whether `group_norm` may normalize `x`."""
    return (
        x.dim() > 1
        and takes(x, channels, (weight, bias), (None, None), eps)
        and x.numel() != groups  # one example with one value in each group, which torch refuses
    )
