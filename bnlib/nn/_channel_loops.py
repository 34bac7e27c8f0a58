"""Batch-norm loops that finish a channel before they begin the next, compiled by Numba.

A channel that stays in a core's cache is read from the memory once, where the loops of `_loops`
read it twice.
"""

import numpy as np
from numba import prange

from bnlib.nn._loops import (
    FAR,
    _compiled,
    _guess,
    _part_of_kernel,
    _row_products,
    _row_sums,
    _write_row,
    _write_row_gradient,
)


@_part_of_kernel
def _channel_moments(v, c):
    """Return the mean and the biased variance of channel `c` of v (n, c, l)."""
    n, _, length = v.shape
    near = _guess(v[0, c])
    mean, var = 0.0, 0.0
    for _ in range(2):
        total, square = 0.0, 0.0
        for i in range(n):
            s, q = _row_sums(v[i, c], near)
            total += s
            square += q
        left = total / (n * length)
        mean, var = near + left, square / (n * length) - left * left
        if not left * left > FAR * var:
            break
        near = v.dtype.type(mean)
    return mean, 0.0 if var < 0 else var


@_compiled
def channels_forward(v, weight, bias, eps, y, mean, var):
    """Fill the result, the mean and the biased variance."""
    n, channels, _ = v.shape
    for c in prange(channels):
        mean[c], var[c] = _channel_moments(v, c)
        near = v.dtype.type(mean[c])
        scale = weight[c] / np.sqrt(var[c] + eps)
        shift = v.dtype.type(bias[c] - (mean[c] - near) * scale)
        scale = v.dtype.type(scale)
        for i in range(n):
            _write_row(v[i, c], near, scale, shift, y[i, c])


@_compiled
def channels_backward(dy, v, weight, mean, var, eps, dx, sums):
    """Fill the gradient of the input, and sums (2, c) with those of bias and weight."""
    n, channels, length = v.shape
    for c in prange(channels):
        near = v.dtype.type(mean[c])
        rest = mean[c] - near
        total, product = 0.0, 0.0
        for i in range(n):
            s, p = _row_products(dy[i, c], v[i, c], near)
            total += s
            product += p
        product -= rest * total
        a = weight[c] / np.sqrt(var[c] + eps)
        b = -a * product / ((var[c] + eps) * (n * length))
        c0 = v.dtype.type(-a * total / (n * length) - b * rest)
        a, b = v.dtype.type(a), v.dtype.type(b)
        for i in range(n):
            _write_row_gradient(dy[i, c], v[i, c], near, a, b, c0, dx[i, c])
        sums[0, c], sums[1, c] = total, product / np.sqrt(var[c] + eps)
