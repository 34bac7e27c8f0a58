"""Batch-norm loops that finish some channels before they begin the next, compiled by Numba.

Channels that stay in a core's cache are read from the memory once, where the loops of `_loops`
read them twice. As many as fit are taken together: their rows lie side by side in the memory.
"""

import numpy as np
from numba import prange

from bnlib.nn._loops import (
    _coefficients,
    _compiled,
    _guess,
    _moments_from,
    _near,
    _part_of_kernel,
    _row_products,
    _row_sums,
    _scale_and_shift,
    _write_row,
    _write_row_gradient,
)

CACHE = 2**19  # bytes that stay in a core's cache, also next to as many of the gradient
MANY = 8  # blocks of channels at least: fewer are not shared out evenly


@_part_of_kernel
def _blocks(v):
    """Return into how many blocks the channels of v (n, c, l) are cut."""
    n, channels, length = v.shape
    fitting = max(CACHE // (n * length * v.itemsize), 1)
    return min(max((channels + fitting - 1) // fitting, MANY), channels)


# Rows count as contiguous, which vectors need, only in whole arrays: so `first` goes with them, not
# a part of them.
@_part_of_kernel
def _forward_block(v, first, weight, bias, eps, y, mean, var):
    n, _, length = v.shape
    near, sums = np.empty(mean.size, v.dtype), np.empty((1, 2, mean.size))
    for c in range(mean.size):
        near[c] = _guess(v[0, first + c])
    for _ in range(2):
        sums[:] = 0
        for i in range(n):
            for c in range(mean.size):
                s, q = _row_sums(v[i, first + c], near[c])
                sums[0, 0, c] += s
                sums[0, 1, c] += q
        if not _moments_from(sums, n * length, near, mean, var):
            break
    scale, shift = _scale_and_shift(weight, bias, eps, var)
    near, scale, shift = _near(v, mean, scale, shift)
    for i in range(n):
        for c in range(mean.size):
            _write_row(v[i, first + c], near[c], scale[c], shift[c], y[i, first + c])


@_part_of_kernel
def _backward_block(dy, v, first, weight, mean, var, eps, dx, sums):
    n, _, length = v.shape
    near = mean.astype(v.dtype)
    sums[:] = 0
    for i in range(n):
        for c in range(mean.size):
            s, p = _row_products(dy[i, first + c], v[i, first + c], near[c])
            sums[0, c] += s
            sums[1, c] += p
    sums[1] -= (mean - near) * sums[0]
    a, b, c0 = _coefficients(sums, n * length, weight, eps, var)
    sums[1] /= np.sqrt(var + eps)
    near, b, c0 = _near(v, mean, b, c0)
    a = a.astype(v.dtype)
    for i in range(n):
        for c in range(mean.size):
            k = first + c
            _write_row_gradient(dy[i, k], v[i, k], near[c], a[c], b[c], c0[c], dx[i, k])


@_compiled
def channels_forward(v, weight, bias, eps, y, mean, var):
    """Fill the result, the mean and the biased variance."""
    channels, blocks = v.shape[1], _blocks(v)
    for t in prange(blocks):
        lo, hi = channels * t // blocks, channels * (t + 1) // blocks
        _forward_block(v, lo, weight[lo:hi], bias[lo:hi], eps, y, mean[lo:hi], var[lo:hi])


@_compiled
def channels_backward(dy, v, weight, mean, var, eps, dx, sums):
    """Fill the gradient of the input, and sums (2, c) with those of bias and weight."""
    channels, blocks = v.shape[1], _blocks(v)
    for t in prange(blocks):
        lo, hi = channels * t // blocks, channels * (t + 1) // blocks
        _backward_block(dy, v, lo, weight[lo:hi], mean[lo:hi], var[lo:hi], eps, dx, sums[:, lo:hi])
