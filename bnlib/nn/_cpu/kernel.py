"""The norms of tensors in the loops of `loops`: what `dispatch.Kernel` asks for, and says."""

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable

import numba
import numpy as np
import torch
from torch import Tensor

from bnlib.nn._cpu import loops
from bnlib.nn._cpu.definition import PLAIN_TYPES, Output

Parameter = Tensor | None

SHORT = 16  # values of a row: fewer are read together with the next channel's
WIDTH = 256  # values of a line at least: short loops are slow
GRAIN = 2**15  # values below which a second thread costs more than it gains; torch's number
CHUNKS = 64  # parts of the rows of layer norm at most: each has gradients of weight and bias
CORES = numba.config.NUMBA_NUM_THREADS
LOCK = threading.Lock()  # not every threading layer of Numba may be entered twice

DTYPES = ((torch.float32, np.float32), (torch.float64, np.float64))
ROWS = {dtype: np.empty(0, like) for dtype, like in DTYPES}
LINES = {dtype: np.empty((0, 0), like) for dtype, like in DTYPES}

# The first write to a new page of 4 KB can cost more time than a kernel needs for its values. NumPy
# asks for large pages in the same way; torch does so only with THP_MEM_ALLOC_ENABLE=1.
HUGE = 2**22  # bytes from which it pays; NumPy's number
PAGE = 4096
MADV_HUGEPAGE = 14

_advise = None
if sys.platform == "linux":
    with contextlib.suppress(OSError, AttributeError):
        _advise = ctypes.CDLL(None).madvise
        _advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def _start_threads() -> None:
    """Start Numba's threads; OpenMP's number of threads, which this sets, is torch's as well."""
    threads = torch.get_num_threads()
    numba.get_num_threads()
    torch.set_num_threads(threads)


_start_threads()


def forward(x: Tensor, weight: Parameter, bias: Parameter, eps: float) -> Output:
    """Normalize the channels of x (n, c, ...)."""
    y, mean = _empty_like(x), _float64(x, x.shape[1])
    var = mean.new_empty(mean.shape)
    _call(loops.forward, x, *_image(x), x, weight, bias, eps, mean, var, y)
    return y, mean, var


def backward(
    dy: Tensor, x: Tensor, weight: Parameter, mean: Tensor, var: Tensor, eps: float
) -> Output:
    """Differentiate `forward`."""
    c = x.shape[1]
    dx, sums, dweight, dbias = _empty_like(x), mean.new_empty(2, c), x.new_empty(c), x.new_empty(c)
    _call(loops.backward, x, *_image(x), dy, x, weight, eps, mean, var, sums, x.numel() // c, dx,
          dweight, dbias)  # fmt: skip
    return dx, dweight, dbias


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel."""
    mean, var = _float64(x, x.shape[1]), _float64(x, x.shape[1])
    _call(loops.moments, x, *_image(x), x, mean, var)
    return mean, var


def apply(
    x: Tensor, mean: Tensor, var: Tensor, weight: Parameter, bias: Parameter, eps: float
) -> Tensor:
    """Return (x - mean) / sqrt(var + eps) * weight + bias."""
    y = _empty_like(x)
    _call(loops.apply, x, *_image(x), x, weight, bias, eps, mean, var, y)
    return y


def gradient_sums(dy: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """Return the sums (2, c) of dy and of dy * (x - mean), float64."""
    sums = _float64(x, 2, x.shape[1])
    _call(loops.gradient_sums, x, *_image(x), dy, x, mean, sums)
    return sums


def gradient_input(
    dy: Tensor, x: Tensor, weight: Parameter, mean: Tensor, var: Tensor, eps: float,
    sums: Tensor, count: int,
) -> Tensor:  # fmt: skip
    """Return the gradient of x for these sums over `count` values of each channel."""
    dx = _empty_like(x)
    _call(loops.gradient_input, x, *_image(x), dy, x, weight, eps, mean, var, sums, count, dx)
    return dx


def track(buffers: Output, mean: Tensor, var: Tensor, weight: float, correction: float) -> None:
    """Move running mean and variance by `weight` to mean and correction * var, and count."""
    loops.track(*(t.numpy() for t in (*buffers, mean, var)), weight, correction)
    torch.autograd.graph.increment_version(buffers)


def last_axis_forward(
    x: Tensor, weight: Parameter, bias: Parameter, eps: float, center: bool
) -> Output:
    """Normalize the rows of x (r, d): layer norm, or RMS norm if not `center`."""
    y, mean, var = _empty_like(x), _float64(x, len(x)), _float64(x, len(x))
    arrays = _arrays(x, _or(weight, 1, x), _or(bias, 0, x), y, mean, var)
    _run(loops.last_axis_forward, x, *arrays[:3], eps, center, *arrays[3:])
    return y, mean, var


def last_axis_backward(
    dy: Tensor, x: Tensor, weight: Parameter, mean: Tensor, var: Tensor, eps: float, center: bool
) -> Output:
    """Differentiate `last_axis_forward`."""
    dx, sums = _empty_like(x), _float64(x, min(CHUNKS, -(-len(x) // 8)), 2, x.shape[1])
    arrays = _arrays(dy, x, _or(weight, 1, x), mean, var, dx, sums)
    _run(loops.last_axis_backward, x, *arrays[:3], eps, *arrays[3:5], center, *arrays[5:])
    return dx, *sums.sum(0)


def group_forward(x: Tensor, weight: Parameter, bias: Parameter, eps: float, groups: int) -> Output:
    """Normalize the groups of channels of each example of x (n, c, l)."""
    n, _, length = x.shape
    y, mean, var = _empty_like(x), _float64(x, n * groups), _float64(x, n * groups)
    v, weight, bias, *results = _arrays(
        x.view(-1), _or(weight, 1, x), _or(bias, 0, x), y.view(-1), mean, var
    )
    _run(loops.group_forward, x, v, length, weight, bias, eps, *results)
    return y, mean, var


def group_backward(
    dy: Tensor, x: Tensor, weight: Parameter, mean: Tensor, var: Tensor, eps: float, groups: int
) -> Output:
    """Differentiate `group_forward`."""
    n, c, length = x.shape
    dx, sums = _empty_like(x), _float64(x, 2, n * groups, c // groups)
    dv, v, weight, *results = _arrays(
        dy.view(-1), x.view(-1), _or(weight, 1, x), mean, var, dx.view(-1), sums
    )
    _run(loops.group_backward, x, dv, v, length, weight, eps, *results)
    dbias, dweight = sums.view(2, n, c).sum(1)
    return dx, dweight, dbias


def _image(x: Tensor) -> tuple[np.ndarray, int, int, int, int]:
    """Return how `loops` sees `x`: like, lines, width, channels, length."""
    n, c = x.shape[:2]
    contiguous, size = x.is_contiguous(), x.numel()
    length = size // (n * c) if contiguous else 1
    if contiguous and (length >= SHORT or n == 1):
        return ROWS[x.dtype], n, c * length, c, length
    lines = size // (c * length)
    fold = max(1, min(WIDTH // (c * length), lines // loops.LINES))
    while lines % fold:
        fold -= 1
    return LINES[x.dtype], lines // fold, fold * c * length, c, length


def _float64(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=torch.float64)


def _empty_like(x: Tensor) -> Tensor:
    """Return an empty tensor like `x`, without gradient, in large pages where there are some."""
    y = torch.empty_like(x, requires_grad=False)
    size = y.numel() * y.element_size()
    if _advise is not None and size >= HUGE:
        start = -(-y.data_ptr() // PAGE) * PAGE
        _advise(start, y.data_ptr() + size - start, MADV_HUGEPAGE)  # advice: may be refused
    return y


def _or(parameter: Parameter, value: float, x: Tensor) -> Tensor:
    """Return a parameter, or `value` for each entry of axis 1 of `x`."""
    return x.new_full((x.shape[1],), value) if parameter is None else parameter


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().numpy() for t in tensors]


def _call(loop: Callable, x: Tensor, *arguments: object) -> None:
    """Run a loop that takes tensors by address, 0 for none; `isinstance` takes a microsecond."""
    addresses = [
        a.data_ptr() if type(a) in PLAIN_TYPES else 0 if a is None else a for a in arguments
    ]
    _run(loop, x, *addresses)


def _run(loop: Callable, x: Tensor, *arguments: object) -> None:
    """Run a loop on as many threads as torch would use for `x`."""
    threads = min(torch.get_num_threads(), CORES) if x.numel() >= GRAIN else 1
    with LOCK:
        before = numba.get_num_threads()
        if before == threads:
            loop(*arguments)
            return
        numba.set_num_threads(threads)
        try:
            loop(*arguments)
        finally:
            numba.set_num_threads(before)
