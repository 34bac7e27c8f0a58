"""One pass over lines that repeat with the period of their parameters, for `_line_loops`."""

import numpy as np
from numba import njit, prange

from bnlib.nn._loops import _compiled, _minus, _part_of_kernel

LINES = 32  # lines added before float64 takes over
WIDTH = 1024  # columns of a task: with its sums they stay in a core's first cache


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
