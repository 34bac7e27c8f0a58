"""One pass over lines that repeat with the period of their parameters, for `_line_loops`.

A tensor is a flat array here; a line is one period of it, and the last may be incomplete.
"""

import numpy as np
from numba import prange

from bnlib.nn._loops import TASK, _compiled, _minus, _part_of_kernel

LINES = 8  # groups of lines added before float64 takes over

# Lines are added up in groups, as written: the errors of one running sum are ten times larger. The
# lines of a group lie far apart, as the processor foresees streams that are not on the same page.
AS_WRITTEN = {"contract"}


@_part_of_kernel
def _lines(v, width):
    """View a flat array as its whole lines (m, width); return what is left over too."""
    whole = v.size // width * width
    return v[:whole].reshape(-1, width), v[whole:]


@_compiled(fastmath=AS_WRITTEN)
def lines_sums(v, near, sums):
    """Fill sums (chunks, 2, width) with the sums of x - near and of its square."""
    lines, rest = _lines(v, near.size)
    m, end, chunks = lines.shape[0], np.uintp(near.size), sums.shape[0]
    for k in prange(chunks):
        s, q = np.empty(near.size, v.dtype), np.empty(near.size, v.dtype)
        sums[k] = 0
        first, last = m * k // chunks, m * (k + 1) // chunks
        quarter = (last - first) // 4
        for start in range(first, first + quarter, LINES):
            s[:] = 0
            q[:] = 0
            for i in range(start, min(start + LINES, first + quarter)):
                for j in range(end):
                    d0 = _minus(lines[i, j], near[j])
                    d1 = _minus(lines[i + quarter, j], near[j])
                    d2 = _minus(lines[i + 2 * quarter, j], near[j])
                    d3 = _minus(lines[i + 3 * quarter, j], near[j])
                    s[j] += (d0 + d1) + (d2 + d3)
                    q[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
            for j in range(end):
                sums[k, 0, j] += s[j]
                sums[k, 1, j] += q[j]
        for i in range(first + 4 * quarter, last):
            for j in range(end):
                d = _minus(lines[i, j], near[j])
                sums[k, 0, j] += d
                sums[k, 1, j] += d * d
    for j in range(rest.size):
        d = _minus(rest[j], near[j])
        sums[0, 0, j] += d
        sums[0, 1, j] += d * d


@_compiled(fastmath=AS_WRITTEN)
def lines_products(dy, v, near, sums):
    """Fill sums (chunks, 2, width) with the sums of dy and of dy * (x - near)."""
    (lines, rest), (upstream, upstream_rest) = _lines(v, near.size), _lines(dy, near.size)
    m, end, chunks = lines.shape[0], np.uintp(near.size), sums.shape[0]
    for k in prange(chunks):
        s, p = np.empty(near.size, v.dtype), np.empty(near.size, v.dtype)
        sums[k] = 0
        first, last = m * k // chunks, m * (k + 1) // chunks
        half = (last - first) // 2
        for start in range(first, first + half, LINES):
            s[:] = 0
            p[:] = 0
            for i in range(start, min(start + LINES, first + half)):
                for j in range(end):
                    d0 = _minus(lines[i, j], near[j])
                    d1 = _minus(lines[i + half, j], near[j])
                    s[j] += upstream[i, j] + upstream[i + half, j]
                    p[j] += upstream[i, j] * d0 + upstream[i + half, j] * d1
            for j in range(end):
                sums[k, 0, j] += s[j]
                sums[k, 1, j] += p[j]
        for i in range(first + 2 * half, last):
            for j in range(end):
                sums[k, 0, j] += upstream[i, j]
                sums[k, 1, j] += upstream[i, j] * _minus(lines[i, j], near[j])
    for j in range(rest.size):
        sums[0, 0, j] += upstream_rest[j]
        sums[0, 1, j] += upstream_rest[j] * _minus(rest[j], near[j])


@_compiled
def lines_write(v, near, scale, shift, y):
    """Fill y with (x - near) * scale + shift."""
    (lines, rest), (out, out_rest) = _lines(v, near.size), _lines(y, near.size)
    m, end, parts = lines.shape[0], np.uintp(near.size), v.size // TASK + 1
    for t in prange(parts):
        for i in range(m * t // parts, m * (t + 1) // parts):
            for j in range(end):
                out[i, j] = _minus(lines[i, j], near[j]) * scale[j] + shift[j]
    for j in range(rest.size):
        out_rest[j] = _minus(rest[j], near[j]) * scale[j] + shift[j]


@_compiled
def lines_write_gradient(dy, v, near, a, b, c0, dx):
    """Fill dx with a * dy + b * (x - near) + c0."""
    (lines, rest), (out, out_rest) = _lines(v, near.size), _lines(dx, near.size)
    upstream, upstream_rest = _lines(dy, near.size)
    m, end, parts = lines.shape[0], np.uintp(near.size), v.size // TASK + 1
    for t in prange(parts):
        for i in range(m * t // parts, m * (t + 1) // parts):
            for j in range(end):
                d = _minus(lines[i, j], near[j])
                out[i, j] = a[j] * upstream[i, j] + (b[j] * d + c0[j])
    for j in range(rest.size):
        out_rest[j] = a[j] * upstream_rest[j] + (b[j] * _minus(rest[j], near[j]) + c0[j])
