"""Batch-norm loops in the order of the memory, compiled by Numba and kept on disk.

A tensor is seen as rows (n, c, l), here, or as lines (m, c), in `_line_loops`. Sums run over at
most `LANE` values in the precision of the input and go on in float64, in an order that does not
depend on the number of threads.

A channel is measured from a value near its mean (`near`), so that no digits cancel: exactly 0 for
a constant channel. This difference is the one operation that fast mathematics must not touch.

Every pass goes over the tensor in the order of the memory. Loops that finished some channels before
they began the next would read a large tensor from the memory once less, but write it in pieces,
which costs more.
"""

from functools import partial

import numpy as np
from numba import njit, prange

from bnlib.nn._pointers import FLOAT64, per_channel, view

TASK = 2**12  # values of a task at least: fewer are not worth a second thread
PARTS = 8  # of a sum at most: more cores wait for the memory, and for what others wrote
PAIR = 128  # values of a row: of fewer, two rows are read at once
LANE = np.uintp(4096)  # values along a row that are added before float64 takes over
PILOT = 16  # values whose mean is the first guess at the mean of a channel
FAR = 4.0  # squared standard deviations from guess to mean at which the guess is repeated
MATH = {"reassoc", "contract", "nsz", "arcp"}  # NaN and infinity keep their meaning


def _compiled(function=None, *, parallel=True, fastmath=MATH):
    if function is None:
        return partial(_compiled, parallel=parallel, fastmath=fastmath)
    options = {"parallel": parallel, "fastmath": fastmath, "nogil": True, "error_model": "numpy"}
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
def _guess(row):
    """Mean of the first values of a row; of equal values, exactly that value."""
    first, m = row[0], min(row.size, PILOT)
    total = row.dtype.type(0)
    for j in range(m):
        total += _minus(row[j], first)
    return first + total / row.dtype.type(m)


@_part_of_kernel
def _total(parts):
    """Add up parts (k, 2, c), in their order."""
    total = np.zeros(parts.shape[1:])
    for k in range(parts.shape[0]):
        for r in range(2):
            for c in range(parts.shape[2]):
                total[r, c] += parts[k, r, c]
    return total


@_part_of_kernel
def _moments_from(sums, count, near, mean, var):
    """Fill mean and variance from the sums (2, c); move `near` if it was far off."""
    far = False
    for c in range(near.size):
        left = sums[0, c] / count
        variance = sums[1, c] / count - left * left
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


@_part_of_kernel
def _groups(channels, length):
    """Return into how many tasks the rows of one image are cut."""
    return min(channels, channels * length // TASK + 1)


@_part_of_kernel
def _task(t, channels, groups):
    """Return the image, or part, of task `t`, and its first and its last channel."""
    i, g = t // groups, t % groups
    return i, channels * g // groups, channels * (g + 1) // groups


# A row is the run [start, stop) of a flat array. Slices of v, or v[i, c, j], cost as much as a
# short row; a signed index could count from the end, which would have to be looked at.


@_part_of_kernel
def _row_sums(v, start, stop, near):
    """Sum over a row the distance to `near` and its square."""
    total, square = 0.0, 0.0
    for first in range(start, stop, LANE):
        s = q = v.dtype.type(0)
        for j in range(first, min(first + LANE, stop)):
            d = _minus(v[j], near)
            s += d
            q += d * d
        total += s
        square += q
    return total, square


@_part_of_kernel
def _pair_sums(v, start, length, near, next_near):
    """Do the same for a short row and the next at once."""
    s = q = next_s = next_q = v.dtype.type(0)
    for j in range(start, start + length):
        d = _minus(v[j], near)
        s += d
        q += d * d
        d = _minus(v[j + length], next_near)
        next_s += d
        next_q += d * d
    return s, q, next_s, next_q


@_part_of_kernel
def _row_products(dy, v, start, stop, near):
    """Sum over a row dy and dy * (x - near)."""
    total, product = 0.0, 0.0
    for first in range(start, stop, LANE):
        s = p = v.dtype.type(0)
        for j in range(first, min(first + LANE, stop)):
            s += dy[j]
            p += dy[j] * _minus(v[j], near)
        total += s
        product += p
    return total, product


@_part_of_kernel
def _pair_products(dy, v, start, length, near, next_near):
    """Do the same for a short row and the next at once."""
    s = p = next_s = next_p = v.dtype.type(0)
    for j in range(start, start + length):
        s += dy[j]
        p += dy[j] * _minus(v[j], near)
        next_s += dy[j + length]
        next_p += dy[j + length] * _minus(v[j + length], next_near)
    return s, p, next_s, next_p


@_part_of_kernel
def _empty_sums(v):
    """Return parts (k, 2, c) of sums."""
    return np.empty((min(v.shape[0], PARTS), 2, v.shape[1]))


@_part_of_kernel
def _add(sums, k, c, first, second):
    sums[k, 0, c] += first
    sums[k, 1, c] += second


@_compiled
def rows_sums(v, near, sums):
    """Fill sums (k, 2, c) with the sums of x - near and of its square over parts of the images."""
    (n, channels, length), parts = v.shape, sums.shape[0]
    groups = 1 if parts < n else _groups(channels, length)
    v, step = v.reshape(-1), np.uintp(length)
    for t in prange(parts * groups):
        k, first, last = _task(t, channels, groups)
        sums[k, :, first:last] = 0
        for i in range(n * k // parts, n * (k + 1) // parts):
            start = np.uintp((i * channels + first) * length)
            pairs = (last - first) // 2 if length < PAIR else 0
            for c in range(first, first + 2 * pairs, 2):
                s, q, next_s, next_q = _pair_sums(v, start, step, near[c], near[c + 1])
                _add(sums, k, c, s, q)
                _add(sums, k, c + 1, next_s, next_q)
                start += step + step
            for c in range(first + 2 * pairs, last):
                s, q = _row_sums(v, start, start + step, near[c])
                _add(sums, k, c, s, q)
                start += step


@_compiled
def rows_products(dy, v, near, sums):
    """Fill sums (k, 2, c) with the sums of dy and of dy * (x - near) over parts of the images."""
    (n, channels, length), parts = v.shape, sums.shape[0]
    groups = 1 if parts < n else _groups(channels, length)
    dy, v, step = dy.reshape(-1), v.reshape(-1), np.uintp(length)
    for t in prange(parts * groups):
        k, first, last = _task(t, channels, groups)
        sums[k, :, first:last] = 0
        for i in range(n * k // parts, n * (k + 1) // parts):
            start = np.uintp((i * channels + first) * length)
            pairs = (last - first) // 2 if length < PAIR else 0
            for c in range(first, first + 2 * pairs, 2):
                s, p, next_s, next_p = _pair_products(dy, v, start, step, near[c], near[c + 1])
                _add(sums, k, c, s, p)
                _add(sums, k, c + 1, next_s, next_p)
                start += step + step
            for c in range(first + 2 * pairs, last):
                s, p = _row_products(dy, v, start, start + step, near[c])
                _add(sums, k, c, s, p)
                start += step


@_compiled
def rows_write(v, near, scale, shift, y):
    """Fill y with (x - near) * scale + shift."""
    n, channels, length = v.shape
    groups = _groups(channels, length)
    v, y, step = v.reshape(-1), y.reshape(-1), np.uintp(length)
    for t in prange(n * groups):
        i, first, last = _task(t, channels, groups)
        start = np.uintp((i * channels + first) * length)
        for c in range(first, last):
            center, a, b = near[c], scale[c], shift[c]
            for j in range(start, start + step):
                y[j] = _minus(v[j], center) * a + b
            start += step


@_compiled
def rows_write_gradient(dy, v, near, a, b, c0, dx):
    """Fill dx with a * dy + b * (x - near) + c0."""
    n, channels, length = v.shape
    groups = _groups(channels, length)
    dy, v, dx, step = dy.reshape(-1), v.reshape(-1), dx.reshape(-1), np.uintp(length)
    for t in prange(n * groups):
        i, first, last = _task(t, channels, groups)
        start = np.uintp((i * channels + first) * length)
        for c in range(first, last):
            center, ac, bc, cc = near[c], a[c], b[c], c0[c]
            for j in range(start, start + step):
                dx[j] = ac * dy[j] + (bc * _minus(v[j], center) + cc)
            start += step


@_sequence
def rows_moments(v, mean, var):
    """Fill the mean and the biased variance of each channel."""
    n, channels, length = v.shape
    near, sums = np.empty(channels, v.dtype), _empty_sums(v)
    for c in range(channels):
        near[c] = _guess(v[0, c])
    rows_sums(v, near, sums)
    if _moments_from(_total(sums), n * length, near, mean, var):
        rows_sums(v, near, sums)
        _moments_from(_total(sums), n * length, near, mean, var)


@_sequence
def rows_apply(v, mean, scale, shift, y):
    """Fill y with (x - mean) * scale + shift."""
    near, scale, shift = _near(v, mean, scale, shift)
    rows_write(v, near, scale, shift, y)


@_sequence
def rows_gradient_sums(dy, v, mean, sums):
    """Fill sums (2, c) with the sums of dy and of dy * (x - mean)."""
    near = mean.astype(v.dtype)
    parts = _empty_sums(v)
    rows_products(dy, v, near, parts)
    sums[:] = _total(parts)
    sums[1] -= (mean - near) * sums[0]


@_sequence
def rows_gradient_input(dy, v, mean, a, b, c0, dx):
    """Fill dx with a * dy + b * (x - mean) + c0."""
    near, b, c0 = _near(v, mean, b, c0)
    rows_write_gradient(dy, v, near, a.astype(v.dtype), b, c0, dx)


@_part_of_kernel
def _forward_arrays(like, shape, x, weight, bias, y, mean, var):
    """Return the arrays that a forward pass is given by address."""
    c = shape[1]
    return (
        view(x, shape, like), per_channel(weight, c, 1, like), per_channel(bias, c, 0, like),
        view(y, shape, like), view(mean, (c,), FLOAT64), view(var, (c,), FLOAT64),
    )  # fmt: skip


@_part_of_kernel
def _backward_arrays(like, shape, dy, x, weight, mean, var, dx, dweight, dbias):
    """Return the arrays that a backward pass is given by address."""
    c = shape[1]
    return (
        view(dy, shape, like), view(x, shape, like), per_channel(weight, c, 1, like),
        view(mean, (c,), FLOAT64), view(var, (c,), FLOAT64), view(dx, shape, like),
        view(dweight, (c,), like), view(dbias, (c,), like),
    )  # fmt: skip


@_sequence
def rows_forward(like, n, c, length, x, weight, bias, eps, y, mean, var):
    """Fill the result, the mean and the biased variance."""
    x, weight, bias, y, mean, var = _forward_arrays(
        like, (n, c, length), x, weight, bias, y, mean, var
    )
    rows_moments(x, mean, var)
    scale, shift = _scale_and_shift(weight, bias, eps, var)
    rows_apply(x, mean, scale, shift, y)


@_sequence
def rows_backward(like, n, c, length, dy, x, weight, mean, var, eps, dx, dweight, dbias):
    """Fill the gradients of the input, the weight and the bias."""
    dy, x, weight, mean, var, dx, dweight, dbias = _backward_arrays(
        like, (n, c, length), dy, x, weight, mean, var, dx, dweight, dbias
    )
    sums = np.empty((2, c))
    rows_gradient_sums(dy, x, mean, sums)
    a, b, c0 = _coefficients(sums, n * length, weight, eps, var)
    rows_gradient_input(dy, x, mean, a, b, c0, dx)
    dweight[:], dbias[:] = sums[1] / np.sqrt(var + eps), sums[0]


@_sequence
def track(running_mean, running_var, tracked, mean, var, weight, correction):
    """Move running statistics (c,) by `weight` to those of a mini-batch, and count it."""
    for c in range(mean.size):
        running_mean[c] += weight * (mean[c] - running_mean[c])
        running_var[c] += weight * (correction * var[c] - running_var[c])
    tracked[()] += 1
