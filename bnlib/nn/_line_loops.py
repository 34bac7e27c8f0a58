"""Batch-norm loops over lines (m, c), channels side by side, compiled by Numba; as in `_loops`.

A line may be short. So `fold` lines are read as one, which every pass sees as a flat array that
repeats with the period of its parameters: `fold` times c. The last period may be incomplete.

Rows (n, c, l) too short for vectors are such lines as well: of c * l values, l for each channel.
"""

import numpy as np

from bnlib.nn._line_passes import (
    LINES,
    lines_products,
    lines_sums,
    lines_write,
    lines_write_gradient,
)
from bnlib.nn._loops import (
    PARTS,
    PILOT,
    _backward_arrays,
    _coefficients,
    _forward_arrays,
    _minus,
    _moments_from,
    _near,
    _part_of_kernel,
    _scale_and_shift,
    _sequence,
    _total,
)

CHUNK = 2**15  # values of a part of the lines at least
WIDTH = 256  # values of a line at least: short loops are slow


@_part_of_kernel
def _guesses(v):
    """Mean of the first values of each channel of v (m, c, l); of equal values, that value."""
    m, channels, _ = v.shape
    near, lines = v[0, :, 0].copy(), min(m, PILOT)
    total = np.zeros(channels, v.dtype)
    for i in range(1, lines):
        for c in range(channels):
            total[c] += _minus(v[i, c, 0], near[c])
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
    _, channels, length = v.shape
    chunks = min(PARTS, max(1, v.size // CHUNK))
    return np.empty((chunks, 2, fold * channels * length))


@_part_of_kernel
def _per_channel(sums, fold, channels, length):
    """Add up sums (chunks, 2, fold * c * l) to (2, c)."""
    folded = _total(sums).reshape(2, fold, channels, length)
    result = np.zeros((2, channels))
    for r in range(2):
        for f in range(fold):
            for c in range(channels):
                for j in range(length):
                    result[r, c] += folded[r, f, c, j]
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
    sums[:] = _per_channel(parts, fold, channels, length)
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
def lines_forward(like, m, c, length, x, weight, bias, eps, y, mean, var):
    """Fill the result, the mean and the biased variance."""
    x, weight, bias, y, mean, var = _forward_arrays(
        like, (m, c, length), x, weight, bias, y, mean, var
    )
    lines_moments(x, mean, var)
    scale, shift = _scale_and_shift(weight, bias, eps, var)
    lines_apply(x, mean, scale, shift, y)


@_sequence
def lines_backward(like, m, c, length, dy, x, weight, mean, var, eps, dx, dweight, dbias):
    """Fill the gradients of the input, the weight and the bias."""
    dy, x, weight, mean, var, dx, dweight, dbias = _backward_arrays(
        like, (m, c, length), dy, x, weight, mean, var, dx, dweight, dbias
    )
    sums = np.empty((2, c))
    lines_gradient_sums(dy, x, mean, sums)
    a, b, c0 = _coefficients(sums, m * length, weight, eps, var)
    lines_gradient_input(dy, x, mean, a, b, c0, dx)
    dweight[:], dbias[:] = sums[1] / np.sqrt(var + eps), sums[0]
