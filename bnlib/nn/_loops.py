"""Batch-norm loops in the order of the memory, compiled by Numba and kept on disk.

A tensor is seen as rows (n, c, l), here, or as lines (m, c), in `_line_loops`. Sums run over at
most `LANE` values in the precision of the input and go on in float64, in an order that does not
depend on the number of threads.

A channel is measured from a value near its mean (`near`), so that no digits cancel: exactly 0 for
a constant channel. This difference is the one operation that fast mathematics must not touch.

All statistics are read before the first result is written, in the order of the memory; for channels
that stay in a core's cache see `_channel_loops`.
"""

import numpy as np
from numba import njit, prange

LANE = 4096  # values along a row that are added before float64 takes over
PILOT = 64  # values whose mean is the first guess at the mean of a channel
FAR = 4.0  # squared standard deviations from guess to mean at which the guess is repeated
MATH = {"reassoc", "contract", "nsz", "arcp"}  # NaN and infinity keep their meaning


def _compiled(function, parallel=True):
    options = {"parallel": parallel, "fastmath": MATH, "nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that can be written to
        return njit(**options)(function)


def _sequence(function):
    """Compile a function that calls loops and has none of its own."""
    return _compiled(function, parallel=False)


_part_of_kernel = njit(fastmath=MATH, nogil=True, error_model="numpy")


@njit(nogil=True)
def _minus(a, b):
    return a - b


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
def _row_products(upstream, row, near):
    """Sum over one row dy and dy * (x - near)."""
    total, product = 0.0, 0.0
    for start in range(0, row.size, LANE):
        s = row.dtype.type(0)
        p = row.dtype.type(0)
        part, dy = row[start : start + LANE], upstream[start : start + LANE]
        for j in range(part.size):
            s += dy[j]
            p += dy[j] * _minus(part[j], near)
        total += s
        product += p
    return total, product


@_part_of_kernel
def _write_row(row, near, scale, shift, out):
    for j in range(row.size):
        out[j] = _minus(row[j], near) * scale + shift


@_part_of_kernel
def _write_row_gradient(upstream, row, near, a, b, c0, out):
    for j in range(row.size):
        out[j] = a * upstream[j] + (b * _minus(row[j], near) + c0)


@_part_of_kernel
def _guess(row):
    """Mean of the first values of a row; of equal values, exactly that value."""
    first = row[:PILOT]
    total = row.dtype.type(0)
    for j in range(first.size):
        total += _minus(first[j], first[0])
    return first[0] + total / row.dtype.type(first.size)


@_part_of_kernel
def _moments_from(sums, count, near, mean, var):
    """Fill mean and variance from the sums (parts, 2, c); move `near` if it was far off."""
    far = False
    for c in range(near.size):
        total, square = 0.0, 0.0
        for i in range(sums.shape[0]):
            total += sums[i, 0, c]
            square += sums[i, 1, c]
        left = total / count
        variance = square / count - left * left
        mean[c], var[c] = near[c] + left, 0.0 if variance < 0 else variance
        if left * left > FAR * variance:
            near[c], far = mean[c], True
    return far


@_part_of_kernel
def _near(v, mean, scale, shift):
    """Return near, scale, shift in the precision of `v` for (x - near) * scale + shift."""
    near = mean.astype(v.dtype)
    shift = shift - (mean - near) * scale
    return near, scale.astype(v.dtype), shift.astype(v.dtype)


@_part_of_kernel
def _scale_and_shift(weight, bias, eps, var):
    return weight / np.sqrt(var + eps), bias + np.zeros(var.size)


@_part_of_kernel
def _coefficients(sums, count, weight, eps, var):
    """Return a, b, c0 with the gradient of the input a * dy + b * (x - mean) + c0."""
    a = weight / np.sqrt(var + eps)
    return a, -a * sums[1] / ((var + eps) * count), -a * sums[0] / count


@_compiled
def rows_sums(v, near, sums):
    """Fill sums (n, 2, c) with the sums of x - near and of its square."""
    n, channels, _ = v.shape
    for t in prange(n * channels):
        i, c = t // channels, t % channels
        sums[i, 0, c], sums[i, 1, c] = _row_sums(v[i, c], near[c])


@_compiled
def rows_products(dy, v, near, sums):
    """Fill sums (n, 2, c) with the sums of dy and of dy * (x - near)."""
    n, channels, _ = v.shape
    for t in prange(n * channels):
        i, c = t // channels, t % channels
        sums[i, 0, c], sums[i, 1, c] = _row_products(dy[i, c], v[i, c], near[c])


@_compiled
def rows_write(v, near, scale, shift, y):
    """Fill y with (x - near) * scale + shift."""
    n, channels, _ = v.shape
    for t in prange(n * channels):
        i, c = t // channels, t % channels
        _write_row(v[i, c], near[c], scale[c], shift[c], y[i, c])


@_compiled
def rows_write_gradient(dy, v, near, a, b, c0, dx):
    """Fill dx with a * dy + b * (x - near) + c0."""
    n, channels, _ = v.shape
    for t in prange(n * channels):
        i, c = t // channels, t % channels
        _write_row_gradient(dy[i, c], v[i, c], near[c], a[c], b[c], c0[c], dx[i, c])


@_sequence
def rows_moments(v, mean, var):
    """Fill the mean and the biased variance of each channel."""
    n, channels, length = v.shape
    near, sums = np.empty(channels, v.dtype), np.empty((n, 2, channels))
    for c in range(channels):
        near[c] = _guess(v[0, c])
    rows_sums(v, near, sums)
    if _moments_from(sums, n * length, near, mean, var):
        rows_sums(v, near, sums)
        _moments_from(sums, n * length, near, mean, var)


@_sequence
def rows_apply(v, mean, scale, shift, y):
    """Fill y with (x - mean) * scale + shift."""
    near, scale, shift = _near(v, mean, scale, shift)
    rows_write(v, near, scale, shift, y)


@_sequence
def rows_gradient_sums(dy, v, mean, sums):
    """Fill sums (2, c) with the sums of dy and of dy * (x - mean)."""
    near = mean.astype(v.dtype)
    parts = np.empty((v.shape[0], 2, v.shape[1]))
    rows_products(dy, v, near, parts)
    sums[:] = parts.sum(0)
    sums[1] -= (mean - near) * sums[0]


@_sequence
def rows_gradient_input(dy, v, mean, a, b, c0, dx):
    """Fill dx with a * dy + b * (x - mean) + c0."""
    near, b, c0 = _near(v, mean, b, c0)
    rows_write_gradient(dy, v, near, a.astype(v.dtype), b, c0, dx)


@_sequence
def rows_forward(v, weight, bias, eps, y, mean, var):
    """Fill the result, the mean and the biased variance."""
    rows_moments(v, mean, var)
    scale, shift = _scale_and_shift(weight, bias, eps, var)
    rows_apply(v, mean, scale, shift, y)


@_sequence
def rows_backward(dy, v, weight, mean, var, eps, dx, sums):
    """Fill the gradient of the input, and sums (2, c) with those of bias and weight."""
    rows_gradient_sums(dy, v, mean, sums)
    a, b, c0 = _coefficients(sums, v.shape[0] * v.shape[2], weight, eps, var)
    sums[1] /= np.sqrt(var + eps)
    rows_gradient_input(dy, v, mean, a, b, c0, dx)
