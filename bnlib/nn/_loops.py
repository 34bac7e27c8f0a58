"""Batch-norm kernels on NumPy arrays, compiled by Numba at their first call and kept on disk.

A tensor is seen as rows (n, c, l) or columns (m, c). Sums run over at most `LANE` or `ROWS`
values in the precision of the input and go on in float64, in an order that does not depend on
the number of threads.

A channel is measured from a value near its mean (`near`), so that no digits cancel: exactly 0 for
a constant channel. This difference is the one operation that fast mathematics must not touch.
"""

import numpy as np
from numba import njit, prange

LANE, ROWS = 4096, 32  # values along a row, or down a column, added before float64 takes over
WIDTH = 256  # columns of a task
PILOT = 64  # values whose mean is the first guess at the mean of a channel
FAR = 4.0  # squared standard deviations from guess to mean at which the guess is repeated
MATH = {"reassoc", "contract", "nsz", "arcp"}  # NaN and infinity keep their meaning


def _compiled(function):
    options = {"parallel": True, "fastmath": MATH, "nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that can be written to
        return njit(**options)(function)


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
def _channel_moments(v, c, near):
    """Mean from `near`, and variance, of channel c of rows."""
    n, _, length = v.shape
    total, square = 0.0, 0.0
    for i in range(n):
        s, q = _row_sums(v[i, c], near)
        total += s
        square += q
    mean = total / (n * length)
    var = square / (n * length) - mean * mean
    return mean, 0.0 if var < 0 else var


@_part_of_kernel
def _guess(row):
    """Mean of the first values of a row; of equal values, exactly that value."""
    count = min(row.size, PILOT)
    total = 0.0
    for j in range(count):
        total += _minus(row[j], row[0])
    return row.dtype.type(row[0] + total / count)


@_compiled
def rows_forward(v, weight, bias, eps, y, mean, var):
    """Normalize channel by channel, while each lies in the cache."""
    for c in prange(v.shape[1]):
        near = _guess(v[0, c])
        left, variance = _channel_moments(v, c, near)
        if left * left > FAR * variance:
            near = v.dtype.type(near + left)
            left, variance = _channel_moments(v, c, near)
        mean[c], var[c] = near + left, variance
        scale = weight[c] / np.sqrt(variance + eps)
        shift = bias[c] - left * scale
        for i in range(v.shape[0]):
            _write_row(v[i, c], near, v.dtype.type(scale), v.dtype.type(shift), y[i, c])


@_compiled
def rows_backward(dy, v, weight, mean, var, eps, dx, sums):
    """Differentiate channel by channel, while each lies in the cache; fill the sums (2, c)."""
    count = v.shape[0] * v.shape[2]
    for c in prange(v.shape[1]):
        near = v.dtype.type(mean[c])
        left = mean[c] - near
        total, product = 0.0, 0.0
        for i in range(v.shape[0]):
            s, p = _row_products(dy[i, c], v[i, c], near)
            total += s
            product += p
        product -= left * total
        sums[0, c], sums[1, c] = total, product
        a = weight[c] / np.sqrt(var[c] + eps)
        b = -a * product / ((var[c] + eps) * count)
        c0 = v.dtype.type(-a * total / count - b * left)
        a, b = v.dtype.type(a), v.dtype.type(b)
        for i in range(v.shape[0]):
            _write_row_gradient(dy[i, c], v[i, c], near, a, b, c0, dx[i, c])


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


@_part_of_kernel
def _add_line(line, near, s, q):
    for j in range(line.size):
        d = _minus(line[j], near[j])
        s[j] += d
        q[j] += d * d


@_part_of_kernel
def _add_product(dy, line, near, s, p):
    for j in range(line.size):
        s[j] += dy[j]
        p[j] += dy[j] * _minus(line[j], near[j])


@_compiled
def columns_sums(v, near, sums):
    """Fill sums (chunks, 2, c) with the sums of x - near and of its square."""
    m, channels = v.shape
    chunks, blocks = sums.shape[0], (channels + WIDTH - 1) // WIDTH
    for t in prange(chunks * blocks):
        k, lo = t // blocks, t % blocks * WIDTH
        hi = min(lo + WIDTH, channels)
        for start in range(m * k // chunks, m * (k + 1) // chunks, ROWS):
            s = np.zeros(hi - lo, v.dtype)
            q = np.zeros(hi - lo, v.dtype)
            for i in range(start, min(start + ROWS, m * (k + 1) // chunks)):
                _add_line(v[i, lo:hi], near[lo:hi], s, q)
            for j in range(hi - lo):
                sums[k, 0, lo + j] += s[j]
                sums[k, 1, lo + j] += q[j]


@_compiled
def columns_products(dy, v, near, sums):
    """Fill sums (chunks, 2, c) with the sums of dy and of dy * (x - near)."""
    m, channels = v.shape
    chunks, blocks = sums.shape[0], (channels + WIDTH - 1) // WIDTH
    for t in prange(chunks * blocks):
        k, lo = t // blocks, t % blocks * WIDTH
        hi = min(lo + WIDTH, channels)
        for start in range(m * k // chunks, m * (k + 1) // chunks, ROWS):
            s = np.zeros(hi - lo, v.dtype)
            p = np.zeros(hi - lo, v.dtype)
            for i in range(start, min(start + ROWS, m * (k + 1) // chunks)):
                _add_product(dy[i, lo:hi], v[i, lo:hi], near[lo:hi], s, p)
            for j in range(hi - lo):
                sums[k, 0, lo + j] += s[j]
                sums[k, 1, lo + j] += p[j]


@_compiled
def columns_write(v, near, scale, shift, y):
    """Fill y with (x - near) * scale + shift."""
    for i in prange(v.shape[0]):
        for j in range(v.shape[1]):
            y[i, j] = _minus(v[i, j], near[j]) * scale[j] + shift[j]


@_compiled
def columns_write_gradient(dy, v, near, a, b, c0, dx):
    """Fill dx with a * dy + b * (x - near) + c0."""
    for i in prange(v.shape[0]):
        for j in range(v.shape[1]):
            dx[i, j] = a[j] * dy[i, j] + (b[j] * _minus(v[i, j], near[j]) + c0[j])
