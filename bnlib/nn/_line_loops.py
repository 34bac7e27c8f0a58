"""Batch-norm loops over lines (m, c), channels side by side, compiled by Numba; as in `_loops`.

A line may be short. So `fold` lines are read as one, which every loop sees as a flat array that
repeats with the period of its parameters: `fold` times c. The last period may be incomplete.

Rows (n, c, l) too short for vectors are such lines as well: of c * l values, l for each channel.
"""

import numpy as np
from numba import njit, prange

from bnlib.nn._loops import (
    _coefficients,
    _compiled,
    _minus,
    _moments_from,
    _near,
    _part_of_kernel,
    _scale_and_shift,
    _sequence,
)

LINES = 32  # lines added before float64 takes over
WIDTH = 1024  # columns of a task: with its sums they stay in a core's first cache
CHUNKS, CHUNK = 64, 128  # parts of a column at most, and lines of a part at least
PILOT = 16  # lines whose mean is the first guess at the mean of a channel


# Sums are added up in pairs, as written: rounding errors of one running sum are ten times larger.
_in_pairs = njit(fastmath={"contract"}, nogil=True, error_model="numpy")


@_in_pairs
def _add_line(line, near, s, q):
    for j in range(line.size):
        d = _minus(line[j], near[j])
        s[j] += d
        q[j] += d * d


@_in_pairs
def _add_lines(x0, x1, x2, x3, near, s, q):
    for j in range(near.size):
        d0, d1 = _minus(x0[j], near[j]), _minus(x1[j], near[j])
        d2, d3 = _minus(x2[j], near[j]), _minus(x3[j], near[j])
        s[j] += (d0 + d1) + (d2 + d3)
        q[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)


@_in_pairs
def _add_distance(line, near, s):
    for j in range(near.size):
        s[j] += _minus(line[j], near[j])


@_in_pairs
def _add_product(dy, line, near, s, p):
    for j in range(line.size):
        s[j] += dy[j]
        p[j] += dy[j] * _minus(line[j], near[j])


@_in_pairs
def _add_products(dy0, dy1, x0, x1, near, s, p):
    for j in range(near.size):
        s[j] += dy0[j] + dy1[j]
        p[j] += dy0[j] * _minus(x0[j], near[j]) + dy1[j] * _minus(x1[j], near[j])


@_part_of_kernel
def _write_line(line, near, scale, shift, out):
    for j in range(line.size):
        out[j] = _minus(line[j], near[j]) * scale[j] + shift[j]


@_part_of_kernel
def _write_line_gradient(dy, line, near, a, b, c0, out):
    for j in range(line.size):
        out[j] = a[j] * dy[j] + (b[j] * _minus(line[j], near[j]) + c0[j])


@_part_of_kernel
def _bounds(t, parts, lines, width):
    """Return the first and the last line, and the first and the last column, of task `t`."""
    blocks = (width + WIDTH - 1) // WIDTH
    k, lo = t // blocks, t % blocks * WIDTH
    return k, lines * k // parts, lines * (k + 1) // parts, lo, min(lo + WIDTH, width)


@_compiled
def lines_sums(v, near, sums):
    """Fill sums (chunks, 2, width) with the sums of x - near and of its square."""
    width, chunks = near.size, sums.shape[0]
    lines = (v.size + width - 1) // width
    for t in prange(chunks * ((width + WIDTH - 1) // WIDTH)):
        k, first, last, lo, hi = _bounds(t, chunks, lines, width)
        s, q = np.empty(hi - lo, v.dtype), np.empty(hi - lo, v.dtype)
        sums[k, :, lo:hi] = 0
        for start in range(first, last, LINES):
            s[:] = 0
            q[:] = 0
            i, stop = start, min(start + LINES, last)
            while i < stop:
                at, end = i * width + lo, i * width + hi
                if i + 4 <= stop and end + 3 * width <= v.size:
                    _add_lines(v[at:end], v[at + width : end + width],
                               v[at + 2 * width : end + 2 * width],
                               v[at + 3 * width : end + 3 * width], near[lo:hi], s, q)  # fmt: skip
                    i += 4
                else:
                    _add_line(v[min(at, v.size) : min(end, v.size)], near[lo:hi], s, q)
                    i += 1
            for j in range(hi - lo):
                sums[k, 0, lo + j] += s[j]
                sums[k, 1, lo + j] += q[j]


@_compiled
def lines_products(dy, v, near, sums):
    """Fill sums (chunks, 2, width) with the sums of dy and of dy * (x - near)."""
    width, chunks = near.size, sums.shape[0]
    lines = (v.size + width - 1) // width
    for t in prange(chunks * ((width + WIDTH - 1) // WIDTH)):
        k, first, last, lo, hi = _bounds(t, chunks, lines, width)
        s, p = np.empty(hi - lo, v.dtype), np.empty(hi - lo, v.dtype)
        sums[k, :, lo:hi] = 0
        for start in range(first, last, LINES):
            s[:] = 0
            p[:] = 0
            i, stop = start, min(start + LINES, last)
            while i < stop:
                at, end = i * width + lo, i * width + hi
                if i + 2 <= stop and end + width <= v.size:
                    _add_products(dy[at:end], dy[at + width : end + width], v[at:end],
                                  v[at + width : end + width], near[lo:hi], s, p)  # fmt: skip
                    i += 2
                else:
                    at, end = min(at, v.size), min(end, v.size)
                    _add_product(dy[at:end], v[at:end], near[lo:hi], s, p)
                    i += 1
            for j in range(hi - lo):
                sums[k, 0, lo + j] += s[j]
                sums[k, 1, lo + j] += p[j]


@_compiled
def lines_write(v, near, scale, shift, y):
    """Fill y with (x - near) * scale + shift."""
    width = near.size
    lines = (v.size + width - 1) // width
    parts = (lines + LINES - 1) // LINES
    for t in prange(parts * ((width + WIDTH - 1) // WIDTH)):
        _, first, last, lo, hi = _bounds(t, parts, lines, width)
        for i in range(first, last):
            at, end = min(i * width + lo, v.size), min(i * width + hi, v.size)
            _write_line(v[at:end], near[lo:hi], scale[lo:hi], shift[lo:hi], y[at:end])


@_compiled
def lines_write_gradient(dy, v, near, a, b, c0, dx):
    """Fill dx with a * dy + b * (x - near) + c0."""
    width = near.size
    lines = (v.size + width - 1) // width
    parts = (lines + LINES - 1) // LINES
    for t in prange(parts * ((width + WIDTH - 1) // WIDTH)):
        _, first, last, lo, hi = _bounds(t, parts, lines, width)
        for i in range(first, last):
            at, end = min(i * width + lo, v.size), min(i * width + hi, v.size)
            _write_line_gradient(
                dy[at:end], v[at:end], near[lo:hi], a[lo:hi], b[lo:hi], c0[lo:hi], dx[at:end]
            )


@_part_of_kernel
def _guesses(v):
    """Mean of the first values of each channel of v (m, c, l); of equal values, that value."""
    m, channels, _ = v.shape
    near, lines = v[0, :, 0].copy(), min(m, PILOT)
    total = np.zeros(channels, v.dtype)
    for i in range(1, lines):
        _add_distance(v[i, :, 0], near, total)
    return near + total / v.dtype.type(lines)


@_part_of_kernel
def _spread(p, length, fold):
    """Repeat each value of `p` (c,) `length` times, and all of this `fold` times."""
    spread = np.empty((fold, p.size, length), p.dtype)
    for c in range(p.size):
        spread[0, c] = p[c]
    for f in range(1, fold):
        spread[f] = spread[0]
    return spread.reshape(-1)


@_part_of_kernel
def _fold(v):
    m, channels, length = v.shape
    return max(1, min(WIDTH // (channels * length), m // LINES))


@_part_of_kernel
def _empty_sums(v, fold):
    m, channels, length = v.shape
    chunks = min(CHUNKS, max(1, m // (fold * CHUNK)))
    return np.empty((chunks, 2, fold * channels * length))


@_part_of_kernel
def _per_channel(sums, fold, channels, length):
    """Add up sums (chunks, 2, fold * c * l) to (1, 2, c)."""
    total = np.zeros((2, fold * channels * length))
    for k in range(sums.shape[0]):
        total += sums[k]
    folded = total.reshape(2, fold, channels, length)
    result = np.zeros((1, 2, channels))
    for r in range(2):
        for f in range(fold):
            for c in range(channels):
                for j in range(length):
                    result[0, r, c] += folded[r, f, c, j]
    return result


@_sequence
def lines_moments(v, mean, var):
    """Fill the mean and the biased variance of each channel of v (m, c, l)."""
    m, channels, length = v.shape
    fold = _fold(v)
    near, sums = _guesses(v), _empty_sums(v, fold)
    for _ in range(2):
        lines_sums(v.reshape(-1), _spread(near, length, fold), sums)
        total = _per_channel(sums, fold, channels, length)
        if not _moments_from(total, m * length, near, mean, var):
            break


@_sequence
def lines_apply(v, mean, scale, shift, y):
    """Fill y with (x - mean) * scale + shift."""
    length, fold = v.shape[2], _fold(v)
    near, scale, shift = _near(v, mean, scale, shift)
    lines_write(v.reshape(-1), _spread(near, length, fold), _spread(scale, length, fold),
                _spread(shift, length, fold), y.reshape(-1))  # fmt: skip


@_sequence
def lines_gradient_sums(dy, v, mean, sums):
    """Fill sums (2, c) with the sums of dy and of dy * (x - mean)."""
    _, channels, length = v.shape
    fold = _fold(v)
    near, parts = mean.astype(v.dtype), _empty_sums(v, fold)
    lines_products(dy.reshape(-1), v.reshape(-1), _spread(near, length, fold), parts)
    sums[:] = _per_channel(parts, fold, channels, length)[0]
    sums[1] -= (mean - near) * sums[0]


@_sequence
def lines_gradient_input(dy, v, mean, a, b, c0, dx):
    """Fill dx with a * dy + b * (x - mean) + c0."""
    length, fold = v.shape[2], _fold(v)
    near, b, c0 = _near(v, mean, b, c0)
    lines_write_gradient(
        dy.reshape(-1), v.reshape(-1), _spread(near, length, fold),
        _spread(a.astype(v.dtype), length, fold), _spread(b, length, fold),
        _spread(c0, length, fold), dx.reshape(-1),
    )  # fmt: skip


@_sequence
def lines_forward(v, weight, bias, eps, y, mean, var):
    """Fill the result, the mean and the biased variance."""
    lines_moments(v, mean, var)
    scale, shift = _scale_and_shift(weight, bias, eps, var)
    lines_apply(v, mean, scale, shift, y)


@_sequence
def lines_backward(dy, v, weight, mean, var, eps, dx, sums):
    """Fill the gradient of the input, and sums (2, c) with those of bias and weight."""
    lines_gradient_sums(dy, v, mean, sums)
    a, b, c0 = _coefficients(sums, v.shape[0] * v.shape[2], weight, eps, var)
    sums[1] /= np.sqrt(var + eps)
    lines_gradient_input(dy, v, mean, a, b, c0, dx)
