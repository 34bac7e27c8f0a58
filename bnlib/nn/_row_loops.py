"""Layer norm and RMS norm of rows (r, d), compiled by Numba; as accurate as `_loops`."""

import numpy as np
from numba import prange

from bnlib.nn._loops import FAR, _compiled, _guess, _minus, _part_of_kernel, _row_sums

ROWS = 32  # whose gradients of weight and bias are added before float64 takes over


@_part_of_kernel
def _sums(v, start, parts, length, near):
    """Sum the distance to `near` and its square over a row: `parts` runs from `start` on."""
    total, square = 0.0, 0.0
    for _ in range(parts):
        s, q = _row_sums(v, start, start + length, near)
        total += s
        square += q
        start += length
    return total, square


@_part_of_kernel
def _moments(v, start, parts, length, center):
    """Return a value near the mean of a row, the mean from there, and the variance.

    Without `center`, 0 and 0 and the mean square.
    """
    count = parts * length
    near = _guess(v[start : start + length]) if center else v.dtype.type(0)
    total, square = _sums(v, start, parts, length, near)
    left, square = total / count, square / count
    if not center:
        return near, 0.0, square
    if left * left > FAR * (square - left * left):
        near = v.dtype.type(near + left)
        total, square = _sums(v, start, parts, length, near)
        left, square = total / count, square / count
    var = square - left * left
    return near, left, 0.0 if var < 0 else var


@_compiled
def forward(v, weight, bias, eps, center, y, mean, inv_std):
    """Fill y, and mean and 1 / sqrt(variance + eps) of each row."""
    flat, end = v.reshape(-1), np.uintp(v.shape[1])
    for r in prange(v.shape[0]):
        near, left, var = _moments(flat, np.uintp(r * v.shape[1]), 1, end, center)
        mean[r], inv_std[r] = near + left, 1 / np.sqrt(var + eps)
        scale = v.dtype.type(inv_std[r])
        shift = v.dtype.type(-left * inv_std[r])
        for j in range(end):
            y[r, j] = (_minus(v[r, j], near) * scale + shift) * weight[j] + bias[j]


@_compiled
def backward(dy, v, weight, mean, inv_std, center, dx, sums):
    """Fill dx, and sums (chunks, 2, d) with the gradients of weight and bias."""
    rows, d = v.shape
    end, chunks, zero = np.uintp(d), sums.shape[0], v.dtype.type(0)
    for k in prange(chunks):
        dweight, dbias = np.empty(d, v.dtype), np.empty(d, v.dtype)
        stop = rows * (k + 1) // chunks
        for start in range(rows * k // chunks, stop, ROWS):
            dweight[:] = 0
            dbias[:] = 0
            for r in range(start, min(start + ROWS, stop)):
                near = v.dtype.type(mean[r])
                scale = v.dtype.type(inv_std[r])
                shift = v.dtype.type((near - mean[r]) * inv_std[r])
                s = p = zero
                for j in range(end):
                    g = dy[r, j] * weight[j]
                    s += g
                    p += g * (_minus(v[r, j], near) * scale + shift)
                s = s / v.dtype.type(d) if center else zero
                p = p / v.dtype.type(d)
                for j in range(end):
                    x_hat = _minus(v[r, j], near) * scale + shift
                    dx[r, j] = scale * (dy[r, j] * weight[j] - s - x_hat * p)
                    dweight[j] += dy[r, j] * x_hat
                    dbias[j] += dy[r, j]
            for j in range(end):
                sums[k, 0, j] += dweight[j]
                sums[k, 1, j] += dbias[j]
