"""Batch-norm kernels on tensors with compiled loops; as in `_kernel_torch`.

The loops of `_loops` take long rows, and where a channel stays in a core's cache those of
`_channel_loops` do; those of `_line_loops` take channels that lie side by side and rows that are
too short for vectors.
"""

import threading
import types

import numba
import numpy as np
import torch
from torch import Tensor

from bnlib.nn import _layout, _line_loops, _loops, _memory

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
    v, loops = _array(x)
    mean, var = np.empty((2, x.shape[1]))
    run(loops.moments, v, mean, var)
    return torch.from_numpy(mean), torch.from_numpy(var)


def apply(x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return (x - mean) * scale + shift; the three are float64 (c,)."""
    y = _memory.empty_like(x)
    v, loops = _array(x)
    run(loops.apply, v, mean.numpy(), scale.numpy(), shift.numpy(), _array(y)[0])
    return y


def gradient_sums(dy: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """Return the sums of dy and of dy * (x - mean), float64 (2, c)."""
    v, loops = _array(x)
    sums = np.empty((2, x.shape[1]))
    run(loops.gradient_sums, _array(dy)[0], v, mean.numpy(), sums)
    return torch.from_numpy(sums)


def gradient_input(dy: Tensor, x: Tensor, mean: Tensor, coefficients: Tensor) -> Tensor:
    """Return a * dy + b * (x - mean) + c0 for `coefficients` a, b, c0, float64 (3, c)."""
    dx = _memory.empty_like(x)
    v, loops = _array(x)
    run(loops.gradient_input, _array(dy)[0], v, mean.numpy(), *coefficients.numpy(), _array(dx)[0])
    return dx


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the mean and the biased variance of each channel."""
    y = _memory.empty_like(x)
    v, loops = _array(x)
    mean, var = np.empty((2, x.shape[1]))
    weight, bias = _or_constant(weight, 1, v), _or_constant(bias, 0, v)
    run(loops.forward, v, weight, bias, eps, _array(y)[0], mean, var)
    return y, torch.from_numpy(mean), torch.from_numpy(var)


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of x, and in float64 those of weight and bias."""
    dx = _memory.empty_like(x)
    v, loops = _array(x)
    sums = np.empty((2, x.shape[1]))
    run(loops.backward, _array(dy)[0], v, _or_constant(weight, 1, v),
         mean.numpy(), var.numpy(), eps, _array(dx)[0], sums)  # fmt: skip
    dbias, dweight = torch.from_numpy(sums)
    return dx, dweight, dbias


def _loops_of(module: types.ModuleType, prefix: str) -> types.SimpleNamespace:
    names = ("moments", "apply", "gradient_sums", "gradient_input", "forward", "backward")
    return types.SimpleNamespace(**{name: getattr(module, prefix + name) for name in names})


ROWS, LINES = _loops_of(_loops, "rows_"), _loops_of(_line_loops, "lines_")


def _array(x: Tensor) -> tuple[np.ndarray, types.SimpleNamespace]:
    """Return rows (n, c, l) or lines (m, c, l), and the loops that take them."""
    v = _layout.view(x.detach())
    if v.dim() == 2:
        return v.unsqueeze(2).numpy(), LINES
    n, _, length = v.shape
    if length < SHORT and n > 1:
        return v.numpy(), LINES
    return v.numpy(), ROWS


def _or_constant(parameter: Tensor | None, value: float, like: np.ndarray) -> np.ndarray:
    if parameter is None:
        return np.full(like.shape[1], value, like.dtype)
    return parameter.detach().numpy()


def run(loop, *arrays) -> None:
    """Call a loop on as many threads as torch would use."""
    threads = min(torch.get_num_threads(), CORES) if arrays[0].size >= GRAIN else 1
    with LOCK:
        before = numba.get_num_threads()
        if before == threads:
            loop(*arrays)
            return
        numba.set_num_threads(threads)
        try:
            loop(*arrays)
        finally:
            numba.set_num_threads(before)
