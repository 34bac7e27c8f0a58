"""Batch-norm kernels on tensors with the compiled loops of `_loops`; as in `_kernel_torch`.

Where a channel stays in a core's cache, one loop takes its statistics and writes its result;
else there is one pass over the tensor for each.
"""

import threading

import numba
import numpy as np
import torch
from torch import Tensor

from bnlib.nn import _layout, _loops

CACHED = 2**18  # elements of a channel that stays in a core's cache
NARROW = 8  # channels: fewer are not shared out whole, or some threads would have no work
GRAIN = 2**15  # elements below which a second thread costs more than it gains; torch's number
CHUNKS = 64  # parts of a column
CORES = numba.config.NUMBA_NUM_THREADS
LOCK = threading.Lock()  # not every threading layer of Numba may be entered twice


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel, float64 (c,)."""
    v, fold = _array(x)
    with np.errstate(all="ignore"):  # NaN and infinity in the input come out in the statistics
        near = _guess(v)
        left, var = _moments_from(v, near)
        if (left * left > _loops.FAR * var).any():
            near = (near + left).astype(v.dtype)
            left, var = _moments_from(v, near)
        mean = near + left
        if fold > 1:
            mean, var = mean.reshape(fold, -1), var.reshape(fold, -1)
            var = var.mean(0) + mean.var(0)
            mean = mean[0] + (mean - mean[0]).mean(0)
    return torch.from_numpy(mean), torch.from_numpy(var)


def apply(x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return (x - mean) * scale + shift; the three are float64 (c,)."""
    y = torch.empty_like(x)
    near = mean.to(x.dtype)
    shift = shift - (mean - near) * scale
    v, fold = _array(x)
    run(_loops.rows_write if v.ndim == 3 else _loops.columns_write,
         v, *_parameters(v, fold, near, scale, shift), _array(y)[0])  # fmt: skip
    return y


def gradient_sums(dy: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """Return the sums of dy and of dy * (x - mean), float64 (2, c)."""
    near = mean.to(x.dtype)
    v, fold = _array(x)
    sums = _sums(_loops.rows_products if v.ndim == 3 else _loops.columns_products,
                 _array(dy)[0], v, *_parameters(v, fold, near))  # fmt: skip
    sums = torch.from_numpy(sums.reshape(2, fold, -1).sum(1))
    sums[1] -= (mean - near) * sums[0]
    return sums


def gradient_input(dy: Tensor, x: Tensor, mean: Tensor, coefficients: Tensor) -> Tensor:
    """Return a * dy + b * (x - mean) + c0 for `coefficients` a, b, c0, float64 (3, c)."""
    dx = torch.empty_like(x)
    near = mean.to(x.dtype)
    a, b, c0 = coefficients
    v, fold = _array(x)
    parameters = _parameters(v, fold, near, a, b, c0 - b * (mean - near))
    run(_loops.rows_write_gradient if v.ndim == 3 else _loops.columns_write_gradient,
         _array(dy)[0], v, *parameters, _array(dx)[0])  # fmt: skip
    return dx


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the mean and the biased variance of each channel."""
    v, _ = _array(x)
    if not _in_cache(v):
        mean, var = moments(x)
        return apply(x, mean, *_layout.scale_and_shift(var, weight, bias, eps)), mean, var
    y = torch.empty_like(x)
    mean, var = np.empty((2, x.shape[1]))
    weight, bias = _or_constant(weight, 1, mean), _or_constant(bias, 0, mean)
    run(_loops.rows_forward, v, weight, bias, eps, _array(y)[0], mean, var)
    return y, torch.from_numpy(mean), torch.from_numpy(var)


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of x, and in float64 those of weight and bias."""
    v, _ = _array(x)
    if not _in_cache(v):
        sums = gradient_sums(dy, x, mean)
        count = x.numel() // x.shape[1]
        values, dweight = _layout.coefficients(sums, count, var, weight, eps)
        return gradient_input(dy, x, mean, values), dweight, sums[0]
    dx = torch.empty_like(x)
    sums = np.empty((2, x.shape[1]))
    run(_loops.rows_backward, _array(dy)[0], v, _or_constant(weight, 1, sums[0]),
         mean.numpy(), var.numpy(), eps, _array(dx)[0], sums)  # fmt: skip
    sums = torch.from_numpy(sums)
    return dx, sums[1] * (var + eps).rsqrt_(), sums[0]


def _array(x: Tensor) -> tuple[np.ndarray, int]:
    """Return rows (n, c, l), or columns (m / fold, fold * c) with at least `WIDTH / 2` of them.

    A loop over few columns is slow, so several lines are read as one.
    """
    v, fold = _layout.view(x.detach()), 1
    if v.dim() == 2:
        m, c = v.shape
        while 2 * fold * c <= _loops.WIDTH and m % (2 * fold) == 0 and m > _loops.ROWS * fold:
            fold *= 2
        v = v.view(m // fold, fold * c)
    return v.numpy(), fold


def _in_cache(v: np.ndarray) -> bool:
    return v.ndim == 3 and v.shape[1] >= NARROW and v.shape[0] * v.shape[2] <= CACHED


def _parameters(v: np.ndarray, fold: int, *values: Tensor) -> list[np.ndarray]:
    """Values (c,) in the precision of `v`, once for each line that is read as one."""
    return [np.tile(p.numpy(), fold).astype(v.dtype, copy=False) for p in values]


def _or_constant(parameter: Tensor | None, value: float, like: np.ndarray) -> np.ndarray:
    if parameter is None:
        return np.full_like(like, value)
    return parameter.detach().double().numpy()


def _guess(v: np.ndarray) -> np.ndarray:
    """Mean of the first values of each channel; of equal values, exactly that value."""
    first = v[0, :, : _loops.PILOT] if v.ndim == 3 else v[: _loops.PILOT].T
    return first[:, 0] + (first - first[:, :1]).mean(1)


def _moments_from(v: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    loop = _loops.rows_sums if v.ndim == 3 else _loops.columns_sums
    total, square = _sums(loop, v, near) / (v.size // near.size)
    return total, np.maximum(square - total * total, 0)


def _sums(loop, *arrays: np.ndarray) -> np.ndarray:
    """Run a loop that fills (parts, 2, c) and add the parts."""
    v = arrays[-2]
    parts = v.shape[0] if v.ndim == 3 else min(CHUNKS, -(-v.shape[0] // _loops.ROWS))
    sums = np.zeros((parts, 2, v.shape[1]))
    run(loop, *arrays, sums)
    return sums.sum(0)


def run(loop, *arrays) -> None:
    """Call a loop on as many threads as torch would use."""
    threads = min(torch.get_num_threads(), CORES) if arrays[0].size >= GRAIN else 1
    with LOCK:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            loop(*arrays)
        finally:
            numba.set_num_threads(before)
