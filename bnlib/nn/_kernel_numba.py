"""Batch-norm kernels on tensors with compiled loops; as in `_kernel_torch`.

The loops of `_loops` take rows; those of `_line_loops` take channels that lie side by side, and
rows that are too short for vectors.
"""

import threading
import types

import numba
import numpy as np
import torch
from torch import Tensor

from bnlib.nn import _layout, _line_loops, _loops, _memory
from bnlib.nn._pointers import LIKE, address

SHORT = 16  # values of a row: fewer are read together with the next channel's
GRAIN = 2**15  # elements below which a second thread costs more than it gains; torch's number
CORES = numba.config.NUMBA_NUM_THREADS
LOCK = threading.Lock()  # not every threading layer of Numba may be entered twice


def _start_threads() -> None:
    """Start Numba's threads; OpenMP's number of threads, which this sets, is torch's as well."""
    threads = torch.get_num_threads()
    numba.get_num_threads()
    torch.set_num_threads(threads)


_start_threads()


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel, float64 (c,)."""
    v = _array(x)
    mean, var = np.empty((2, x.shape[1]))
    run(_loops_for(v.shape).moments, v, mean, var)
    return torch.from_numpy(mean), torch.from_numpy(var)


def apply(x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return (x - mean) * scale + shift; the three are float64 (c,)."""
    y, v = _memory.empty_like(x), _array(x)
    run(_loops_for(v.shape).apply, v, mean.numpy(), scale.numpy(), shift.numpy(), _array(y))
    return y


def gradient_sums(dy: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """Return the sums of dy and of dy * (x - mean), float64 (2, c)."""
    v, sums = _array(x), np.empty((2, x.shape[1]))
    run(_loops_for(v.shape).gradient_sums, _array(dy), v, mean.numpy(), sums)
    return torch.from_numpy(sums)


def gradient_input(dy: Tensor, x: Tensor, mean: Tensor, coefficients: Tensor) -> Tensor:
    """Return a * dy + b * (x - mean) + c0 for `coefficients` a, b, c0, float64 (3, c)."""
    dx, v = _memory.empty_like(x), _array(x)
    run(_loops_for(v.shape).gradient_input, _array(dy), v, mean.numpy(),
        *coefficients.numpy(), _array(dx))  # fmt: skip
    return dx


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the mean and the biased variance of each channel."""
    shape = _shape(x)
    y, c = _memory.empty_like(x), shape[1]
    mean, var = x.new_empty(c, dtype=torch.float64), x.new_empty(c, dtype=torch.float64)
    weight, bias = _layout.contiguous(weight), _layout.contiguous(bias)
    call(_loops_for(shape).forward, x.numel(), LIKE[x.dtype], *shape, address(x),
         address(weight), address(bias), eps, address(y), address(mean), address(var))  # fmt: skip
    return y, mean, var


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias."""
    shape = _shape(x)
    dx, dweight, dbias = _memory.empty_like(x), x.new_empty(shape[1]), x.new_empty(shape[1])
    weight = _layout.contiguous(weight)
    call(_loops_for(shape).backward, x.numel(), LIKE[x.dtype], *shape, address(dy),
         address(x), address(weight), address(mean), address(var), eps, address(dx),
         address(dweight), address(dbias))  # fmt: skip
    return dx, dweight, dbias


def track(
    buffers: tuple[Tensor, Tensor, Tensor],
    mean: Tensor,
    var: Tensor,
    weight: float,
    correction: float,
) -> None:
    """Move running mean and variance by `weight` to those of a mini-batch, and count it.

    The variance is multiplied by `correction` first.
    """
    arrays = [t.numpy() for t in (*buffers, mean, var)]
    _loops.track(*arrays, weight, correction)
    torch.autograd.graph.increment_version(buffers)


def _loops_of(module: types.ModuleType, prefix: str) -> types.SimpleNamespace:
    names = ("moments", "apply", "gradient_sums", "gradient_input", "forward", "backward")
    return types.SimpleNamespace(**{name: getattr(module, prefix + name) for name in names})


ROWS, LINES = _loops_of(_loops, "rows_"), _loops_of(_line_loops, "lines_")


def _array(x: Tensor) -> np.ndarray:
    """View a dense `x` as rows (n, c, l), or as lines (m, c, 1) if channels lie side by side."""
    v = _layout.view(x.detach()).numpy()
    return v[:, :, None] if v.ndim == 2 else v


def _shape(x: Tensor) -> tuple[int, int, int]:
    """Return n, c, l of a dense `x` as rows, or m, c, 1 as lines."""
    n, c = x.shape[:2]
    size = x.numel()
    return (n, c, size // (n * c)) if x.is_contiguous() else (size // c, c, 1)


def _loops_for(shape: tuple[int, int, int]) -> types.SimpleNamespace:
    n, _, length = shape
    return LINES if length < SHORT and n > 1 else ROWS


def or_constant(parameter: Tensor | None, value: float, like: np.ndarray) -> np.ndarray:
    """Return a parameter, one value for each entry of axis 1 of `like`, or `value` for all."""
    if parameter is None:
        return np.full(like.shape[1], value, like.dtype)
    return parameter.detach().numpy()


def run(loop, *arrays) -> None:
    """Call a loop on as many threads as torch would use for the first array."""
    call(loop, arrays[0].size, *arrays)


def call(loop, size, *arguments) -> None:
    """Call a loop on as many threads as torch would use for so many values."""
    threads = min(torch.get_num_threads(), CORES) if size >= GRAIN else 1
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
