"""Layer norm and RMS norm of rows (r, d), compiled by Numba; as accurate as `_loops`."""

import numpy as np
from numba import prange

from bnlib.nn._loops import FAR, LANE, _compiled, _guess, _minus, _part_of_kernel

LINES = 32  # rows whose gradients of weight and bias are added before float64 takes over


@_part_of_kernel
def _row_sums(row, near):
    """Sum over one row the distance to `near` and its square."""
    total, square = 0.0, 0.0
    for start in range(0, row.size, LANE):
        s = row.dtype.type(0)
        q = row.dtype.type(0)
        part = row[start : start + LANE]
        for j in range(part.size):
            d = _minus(part[j], near)
            s += d
            q += d * d
        total += s
        square += q
    return total, square


@_part_of_kernel
def _row_moments(row, center):
    """Return a value near the mean, the mean from there, and the variance or mean square."""
    near = _guess(row) if center else row.dtype.type(0)
    total, square = _row_sums(row, near)
    left, square = total / row.size, square / row.size
    if not center:
        return near, 0.0, square
    if left * left > FAR * (square - left * left):
        near = row.dtype.type(near + left)
        total, square = _row_sums(row, near)
        left, square = total / row.size, square / row.size
    var = square - left * left
    return near, left, 0.0 if var < 0 else var


@_compiled
def forward(v, weight, bias, eps, center, y, mean, inv_std):
    """Fill y, and mean and 1 / sqrt(variance + eps) of each row."""
    for r in prange(v.shape[0]):
        near, left, var = _row_moments(v[r], center)
        mean[r], inv_std[r] = near + left, 1 / np.sqrt(var + eps)
        scale = v.dtype.type(inv_std[r])
        shift = v.dtype.type(-left * inv_std[r])
        for j in range(v.shape[1]):
            y[r, j] = (_minus(v[r, j], near) * scale + shift) * weight[j] + bias[j]


@_part_of_kernel
def _row_gradient(dy, row, affine, center, dx, dweight, dbias):
    """Fill the gradient of one row, and add to those of weight and bias."""
    near, scale, shift, weight = affine
    s = row.dtype.type(0)
    p = row.dtype.type(0)
    for j in range(row.size):
        x_hat = _minus(row[j], near) * scale + shift
        g = dy[j] * weight[j]
        s += g
        p += g * x_hat
        dweight[j] += dy[j] * x_hat
        dbias[j] += dy[j]
    s = s / row.dtype.type(row.size) if center else row.dtype.type(0)
    p = p / row.dtype.type(row.size)
    for j in range(row.size):
        x_hat = _minus(row[j], near) * scale + shift
        dx[j] = scale * (dy[j] * weight[j] - s - x_hat * p)


@_compiled
def backward(dy, v, weight, mean, inv_std, center, dx, sums):
    """Fill dx, and sums (chunks, 2, d) with the gradients of weight and bias."""
    rows, d = v.shape
    chunks = sums.shape[0]
    for k in prange(chunks):
        stop = rows * (k + 1) // chunks
        for start in range(rows * k // chunks, stop, LINES):
            dweight, dbias = np.zeros(d, v.dtype), np.zeros(d, v.dtype)
            for r in range(start, min(start + LINES, stop)):
                near = v.dtype.type(mean[r])
                scale = v.dtype.type(inv_std[r])
                shift = v.dtype.type((near - mean[r]) * inv_std[r])
                affine = near, scale, shift, weight
                _row_gradient(dy[r], v[r], affine, center, dx[r], dweight, dbias)
            for j in range(d):
                sums[k, 0, j] += dweight[j]
                sums[k, 1, j] += dbias[j]
