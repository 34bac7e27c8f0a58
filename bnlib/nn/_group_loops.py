"""Group norm of rows (n * groups, k, l), compiled by Numba; as accurate as `_loops`.

A row holds one group of an example: k channels of l values. It is finished while it is in a cache.
"""

import numpy as np
from numba import prange

from bnlib.nn._loops import _compiled, _minus, _row_products
from bnlib.nn._row_loops import _moments


@_compiled
def forward(v, groups, weight, bias, eps, y, mean, inv_std):
    """Fill y, and mean and 1 / sqrt(variance + eps) of each row; weight and bias are (c,)."""
    rows, channels, length = v.shape
    v, y, step = v.reshape(-1), y.reshape(-1), np.uintp(length)
    for r in prange(rows):
        start = np.uintp(r * channels * length)
        near, left, var = _moments(v, start, channels, step, True)
        mean[r], inv_std[r] = near + left, 1 / np.sqrt(var + eps)
        for c in range(channels):
            channel = r % groups * channels + c
            a = inv_std[r] * weight[channel]
            scale, shift = v.dtype.type(a), v.dtype.type(bias[channel] - left * a)
            for j in range(start, start + step):
                y[j] = _minus(v[j], near) * scale + shift
            start += step


@_compiled
def backward(dy, v, groups, weight, mean, inv_std, dx, sums):
    """Fill dx, and sums (2, rows, k) with the sums of dy and of dy * x_hat of each channel."""
    rows, channels, length = v.shape
    dy, v, dx, step = dy.reshape(-1), v.reshape(-1), dx.reshape(-1), np.uintp(length)
    for r in prange(rows):
        near, inv = v.dtype.type(mean[r]), inv_std[r]
        mean_g, mean_g_x_hat = 0.0, 0.0
        start = np.uintp(r * channels * length)
        for c in range(channels):
            total, product = _row_products(dy, v, start, start + step, near)
            start += step
            product = (product - (mean[r] - near) * total) * inv
            sums[0, r, c], sums[1, r, c] = total, product
            w = weight[r % groups * channels + c] / (channels * length)
            mean_g += w * total
            mean_g_x_hat += w * product
        slope = -inv * inv * mean_g_x_hat
        b = v.dtype.type(slope)
        c0 = v.dtype.type(-inv * mean_g - slope * (mean[r] - near))
        start = np.uintp(r * channels * length)
        for c in range(channels):
            a = v.dtype.type(inv * weight[r % groups * channels + c])
            for j in range(start, start + step):
                dx[j] = a * dy[j] + (b * _minus(v[j], near) + c0)
            start += step
