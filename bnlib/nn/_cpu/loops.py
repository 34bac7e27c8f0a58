"""The loops of all norms, compiled by Numba and kept on disk.

They stand in one file because Numba compiles again when the file of a loop changes, and looks at
no other. Batch norm is given tensors by address, as an array of each costs more than a small loop.

Batch norm sees a tensor as lines (m, w), of which column j belongs to channel ``j // length % c``:
`length` values of a channel are neighbours. A line is an image, and its channels are read row by
row; or, where channels lie side by side or rows would be too short for vectors, it is read column
by column, and holds one position or several. In the first case, an array is flat.

A pass forward and a pass backward are the same two loops, with d = x - near and with g the gradient
of the output or, forward, d itself:

- sums of g and of g * d,
- out = a * g + b * d + c0, forward without the first term.

Forward, `dy` is None, and Numba compiles the loop without the branches that ask for it.

Sums run over few values in the precision of the input and go on in float64, in an order that does
not depend on the number of threads. A channel is measured from a value near its mean (`near`), so
that no digits cancel: exactly 0 for a constant channel. This difference is the one operation that
fast mathematics must not touch.

Every pass goes over the tensor in the order of the memory. Loops that finished some channels before
they began the next would read a large tensor from the memory once less, but write it in pieces,
which costs more.
"""

from functools import partial

import numpy as np
from numba import carray, njit, prange, types
from numba.extending import intrinsic

TASK = 2**12  # values of a task at least: fewer are not worth a second thread
PARTS = 8  # of a sum at most: more cores wait for the memory, and for what others wrote
CHUNK = 2**15  # values of a part of the lines at least
PAIR = 128  # values of a row: of fewer, two rows are read at once
RUN = np.uintp(4096)  # values along a row that are added before float64 takes over
LINES = 8  # lines, or groups of them, that are added before float64 takes over
EXAMPLES = 32  # whose gradients of weight and bias are added before float64 takes over
PILOT = 16  # values whose mean is the first guess at the mean of a channel
FAR = 4.0  # squared standard deviations from guess to mean at which the guess is repeated
MATH = {"reassoc", "contract", "nsz", "arcp"}  # NaN and infinity keep their meaning
FLOAT64 = np.empty(0, np.float64)  # an empty array tells the type of what lies at an address

# Lines are added up in groups, as written: the errors of one running sum are ten times larger. The
# lines of a group lie far apart, as the processor foresees streams that are not on the same page.
AS_WRITTEN = {"contract"}


def loop(function=None, *, parallel=True, fastmath=MATH):
    """Compile a function that runs on several threads, and keep it where there is a folder."""
    if function is None:
        return partial(loop, parallel=parallel, fastmath=fastmath)
    options = {"parallel": parallel, "fastmath": fastmath, "nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that can be written to
        return njit(**options)(function)


sequence = partial(loop, parallel=False)  # of loops, without one of its own
helper = njit(fastmath=MATH, nogil=True, error_model="numpy")


@njit(nogil=True)
def minus(a, b):
    """Return a - b, out of the reach of fast mathematics."""
    return a - b


# Tensors


@intrinsic
def pointer(typing, address, like):
    """Turn an integer into a pointer to values of the type of `like`."""

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(address, like), code


@helper
def view(address, shape, like):
    """View what lies at an address as an array of the type of `like`."""
    return carray(pointer(address, like), shape)


@helper
def image(address, m, w, like):
    """View a tensor as lines (m, w) or, for `like` of one axis, flat, to be read by rows."""
    if like.ndim == 1:
        return view(address, (m * w,), like)
    return view(address, (m, w), like)


@helper
def parameter(address, size, default, like):
    """Return the values at an address, or `default` for all if there is none."""
    values = np.full(size, default, like.dtype)
    if address != 0:
        values[:] = view(address, (size,), like)
    return values


# A row is the run [start, stop) of a flat array. Slices of v, or v[i, c, j], cost as much as a
# short row; a signed index could count from the end, which would have to be looked at.


@helper
def guess(v, start, step, count):
    """Mean of the first of `count` values, `step` apart; of equal values, exactly that value."""
    first, m = v[start], min(count, PILOT)
    total = v.dtype.type(0)
    for j in range(np.uintp(m)):
        total += minus(v[start + j * step], first)
    return first + total / v.dtype.type(m)


@helper
def run_sums(dy, v, start, stop, near):
    """Sum g and g * d over a row."""
    total, product = 0.0, 0.0
    for first in range(start, stop, RUN):
        s = p = v.dtype.type(0)
        for j in range(first, min(first + RUN, stop)):
            d = minus(v[j], near)
            g = d if dy is None else dy[j]
            s += g
            p += g * d
        total += s
        product += p
    return total, product


@helper
def pair_sums(dy, v, start, length, near, next_near):
    """Do the same for a short row and the next at once."""
    s = p = next_s = next_p = v.dtype.type(0)
    for j in range(start, start + length):
        d, next_d = minus(v[j], near), minus(v[j + length], next_near)
        g = d if dy is None else dy[j]
        next_g = next_d if dy is None else dy[j + length]
        s += g
        p += g * d
        next_s += next_g
        next_p += next_g * next_d
    return s, p, next_s, next_p


@helper
def run_moments(v, start, stop, center):
    """Return a value near the mean of a row, the mean from there, and the variance.

    Without `center`, 0 and 0 and the mean square.
    """
    count = stop - start
    near = guess(v, start, np.uintp(1), count) if center else v.dtype.type(0)
    total, square = run_sums(None, v, start, stop, near)
    left, square = total / count, square / count
    if not center:
        return near, 0.0, square
    if left * left > FAR * (square - left * left):
        near = v.dtype.type(near + left)
        total, square = run_sums(None, v, start, stop, near)
        left, square = total / count, square / count
    return near, left, max(square - left * left, 0.0)


# Passes of batch norm


@helper
def groups_of(channels, length):
    """Return into how many tasks the rows of one image are cut."""
    return min(channels, channels * length // TASK + 1)


@helper
def share(t, channels, groups):
    """Return the image, or part, of task `t`, and its first and its last channel."""
    i, g = t // groups, t % groups
    return i, channels * g // groups, channels * (g + 1) // groups


@loop
def row_sums(dy, v, length, near, sums):
    """Fill sums (parts, 2, c) with the sums of g and g * d over parts of the images."""
    channels, parts, step = near.size, sums.shape[0], np.uintp(length)
    n = v.size // (channels * length)
    groups = 1 if parts < n else groups_of(channels, length)
    for t in prange(parts * groups):
        k, first, last = share(t, channels, groups)
        sums[k, :, first:last] = 0
        for i in range(n * k // parts, n * (k + 1) // parts):
            start = np.uintp((i * channels + first) * length)
            pairs = (last - first) // 2 if length < PAIR else 0
            for c in range(first, first + 2 * pairs, 2):
                s, p, next_s, next_p = pair_sums(dy, v, start, step, near[c], near[c + 1])
                sums[k, 0, c] += s
                sums[k, 1, c] += p
                sums[k, 0, c + 1] += next_s
                sums[k, 1, c + 1] += next_p
                start += step + step
            for c in range(first + 2 * pairs, last):
                s, p = run_sums(dy, v, start, start + step, near[c])
                sums[k, 0, c] += s
                sums[k, 1, c] += p
                start += step


@loop
def row_write(dy, v, length, near, a, b, c0, out):
    """Fill out with a * dy + b * d + c0."""
    channels, step = near.size, np.uintp(length)
    n, groups = v.size // (channels * length), groups_of(channels, length)
    for t in prange(n * groups):
        i, first, last = share(t, channels, groups)
        start = np.uintp((i * channels + first) * length)
        for c in range(first, last):
            center, ac, bc, cc = near[c], a[c], b[c], c0[c]
            for j in range(start, start + step):
                value = bc * minus(v[j], center) + cc
                out[j] = value if dy is None else ac * dy[j] + value
            start += step


@loop(fastmath=AS_WRITTEN)
def line_sums(dy, v, near, sums):
    """Fill sums (parts, 2, w) with the sums of g and g * d over parts of the lines."""
    m, width, parts = v.shape[0], np.uintp(v.shape[1]), sums.shape[0]
    for k in prange(parts):
        s, p = np.empty(width, v.dtype), np.empty(width, v.dtype)
        sums[k] = 0
        first, last = m * k // parts, m * (k + 1) // parts
        for start in range(first, last, LINES):
            s[:] = 0
            p[:] = 0
            for i in range(start, min(start + LINES, last)):
                for j in range(width):
                    d = minus(v[i, j], near[j])
                    g = d if dy is None else dy[i, j]
                    s[j] += g
                    p[j] += g * d
            for j in range(width):
                sums[k, 0, j] += s[j]
                sums[k, 1, j] += p[j]


@loop
def line_write(dy, v, near, a, b, c0, out):
    """Fill out with a * dy + b * d + c0."""
    m, width, parts = v.shape[0], np.uintp(v.shape[1]), v.size // TASK + 1
    for t in prange(parts):
        for i in range(m * t // parts, m * (t + 1) // parts):
            for j in range(width):
                value = b[j] * minus(v[i, j], near[j]) + c0[j]
                out[i, j] = value if dy is None else a[j] * dy[i, j] + value


# Batch norm


@helper
def guesses(v, channels, length):
    """Return the first guess at the mean of each channel."""
    near, flat = np.empty(channels, v.dtype), v.reshape(-1)
    step, count = (1, length) if v.ndim == 1 else (v.shape[1], v.shape[0])
    for c in range(channels):
        near[c] = guess(flat, np.uintp(c * length), np.uintp(step), count)
    return near


@helper
def spread(p, v, length):
    """Give the values of `p` (c,) to the channels of rows, or to the columns of lines."""
    if v.ndim == 1:
        return p.astype(v.dtype)
    columns = np.empty((v.shape[1] // (p.size * length), p.size, length), v.dtype)
    for c in range(p.size):
        columns[0, c] = p[c]
    for f in range(1, columns.shape[0]):
        columns[f] = columns[0]
    return columns.reshape(-1)


@helper
def total(parts):
    """Add up parts (k, 2, w), in their order."""
    result = np.zeros(parts.shape[1:])
    for k in range(parts.shape[0]):
        for r in range(2):
            for j in range(parts.shape[2]):
                result[r, j] += parts[k, r, j]
    return result


@helper
def all_sums(dy, v, near, length):
    """Return the sums (2, c) of g and g * d over all values of a channel."""
    channels = near.size
    if v.ndim == 1:
        sums = np.empty((min(v.size // (channels * length), PARTS), 2, channels))
        row_sums(dy, v, length, near, sums)
        return total(sums)
    sums = np.empty((min(PARTS, max(1, v.size // CHUNK)), 2, v.shape[1]))
    line_sums(dy, v, spread(near, v, length), sums)
    columns, result = total(sums).reshape(2, -1, channels, length), np.zeros((2, channels))
    for r in range(2):
        for f in range(columns.shape[1]):
            for c in range(channels):
                for j in range(length):
                    result[r, c] += columns[r, f, c, j]
    return result


@helper
def write(dy, v, mean, a, b, c0, length, out):
    """Fill out with a * dy + b * (x - mean) + c0, for float64 coefficients (c,)."""
    near = mean.astype(v.dtype)
    c0 = c0 - b * (mean - near)
    b, c0 = spread(b, v, length), spread(c0, v, length)
    a = b if dy is None else spread(a, v, length)
    if v.ndim == 1:
        row_write(dy, v, length, near, a, b, c0, out)
    else:
        line_write(dy, v, spread(near, v, length), a, b, c0, out)


@sequence
def moments(like, m, w, channels, length, x, mean, var):
    """Fill the mean and the biased variance of each channel."""
    v = image(x, m, w, like)
    mean, var = view(mean, (channels,), FLOAT64), view(var, (channels,), FLOAT64)
    near, count = guesses(v, channels, length), v.size // channels
    for _ in range(2):
        sums, far = all_sums(None, v, near, length), False
        for c in range(channels):
            left = sums[0, c] / count
            variance = sums[1, c] / count - left * left
            mean[c], var[c] = near[c] + left, 0.0 if variance < 0 else variance
            if left * left > FAR * variance:
                near[c], far = mean[c], True
        if not far:
            break


@sequence
def apply(like, m, w, channels, length, x, weight, bias, eps, mean, var, y):
    """Fill y with (x - mean) / sqrt(var + eps) * weight + bias."""
    v, out = image(x, m, w, like), image(y, m, w, like)
    weight, bias = parameter(weight, channels, 1, like), parameter(bias, channels, 0, like)
    mean, var = view(mean, (channels,), FLOAT64), view(var, (channels,), FLOAT64)
    scale = weight / np.sqrt(var + eps)
    write(None, v, mean, scale, scale, bias + np.zeros(channels), length, out)


@sequence
def gradient_sums(like, m, w, channels, length, dy, x, mean, sums):
    """Fill sums (2, c) with the sums of dy and of dy * (x - mean)."""
    dy, v = image(dy, m, w, like), image(x, m, w, like)
    mean, sums = view(mean, (channels,), FLOAT64), view(sums, (2, channels), FLOAT64)
    near = mean.astype(v.dtype)
    sums[:] = all_sums(dy, v, near, length)
    sums[1] -= (mean - near) * sums[0]


@sequence
def gradient_input(like, m, w, channels, length, dy, x, weight, eps, mean, var, sums, count, dx):
    """Fill dx, for the sums that `gradient_sums` gives, over `count` values of each channel.

    dx = weight * inv_std * (dy - mean(dy) - x_hat * mean(dy * x_hat))
    """
    dy, v = image(dy, m, w, like), image(x, m, w, like)
    weight, out = parameter(weight, channels, 1, like), image(dx, m, w, like)
    mean, var = view(mean, (channels,), FLOAT64), view(var, (channels,), FLOAT64)
    sums = view(sums, (2, channels), FLOAT64)
    a = weight / np.sqrt(var + eps)
    write(dy, v, mean, a, -a * sums[1] / ((var + eps) * count), -a * sums[0] / count, length, out)


@sequence
def forward(like, m, w, channels, length, x, weight, bias, eps, mean, var, y):
    """Fill the output, the mean and the biased variance."""
    moments(like, m, w, channels, length, x, mean, var)
    apply(like, m, w, channels, length, x, weight, bias, eps, mean, var, y)


@sequence
def backward(
    like, m, w, channels, length, dy, x, weight, eps, mean, var, sums, count, dx, dweight, dbias
):
    """Fill the gradients of input, weight and bias, and the sums of which they consist."""
    gradient_sums(like, m, w, channels, length, dy, x, mean, sums)
    gradient_input(like, m, w, channels, length, dy, x, weight, eps, mean, var, sums, count, dx)
    sums, var = view(sums, (2, channels), FLOAT64), view(var, (channels,), FLOAT64)
    dweight, dbias = view(dweight, (channels,), like), view(dbias, (channels,), like)
    dweight[:], dbias[:] = sums[1] / np.sqrt(var + eps), sums[0]


@sequence
def track(running_mean, running_var, tracked, mean, var, weight, correction):
    """Move running statistics (c,) by `weight` to those of a mini-batch, and count it."""
    for c in range(mean.size):
        running_mean[c] += weight * (mean[c] - running_mean[c])
        running_var[c] += weight * (correction * var[c] - running_var[c])
    tracked[()] += 1


# Layer norm and RMS norm


@loop
def last_axis_forward(v, weight, bias, eps, center, y, mean, var):
    """Fill y, and mean and variance of each row of v (r, d)."""
    flat, end = v.reshape(-1), np.uintp(v.shape[1])
    for r in prange(v.shape[0]):
        start = np.uintp(r * v.shape[1])
        near, left, var[r] = run_moments(flat, start, start + end, center)
        mean[r], inv_std = near + left, 1 / np.sqrt(var[r] + eps)
        scale, shift = v.dtype.type(inv_std), v.dtype.type(-left * inv_std)
        for j in range(end):
            y[r, j] = (minus(v[r, j], near) * scale + shift) * weight[j] + bias[j]


@loop
def last_axis_backward(dy, v, weight, eps, mean, var, center, dx, sums):
    """Fill dx, and sums (parts, 2, d) with the gradients of weight and bias.

    dx = inv_std * (g - mean(g) - x_hat * mean(g * x_hat)) with g = dy * weight, without mean(g) if
    not `center`
    """
    (rows, d), parts = v.shape, sums.shape[0]
    end, zero = np.uintp(d), v.dtype.type(0)
    for k in prange(parts):
        dweight, dbias = np.empty(d, v.dtype), np.empty(d, v.dtype)
        sums[k] = 0
        stop = rows * (k + 1) // parts
        for start in range(rows * k // parts, stop, EXAMPLES):
            dweight[:] = 0
            dbias[:] = 0
            for r in range(start, min(start + EXAMPLES, stop)):
                near, inv_std = v.dtype.type(mean[r]), 1 / np.sqrt(var[r] + eps)
                scale, shift = v.dtype.type(inv_std), v.dtype.type((near - mean[r]) * inv_std)
                s = p = zero
                for j in range(end):
                    g = dy[r, j] * weight[j]
                    s += g
                    p += g * (minus(v[r, j], near) * scale + shift)
                s = s / v.dtype.type(d) if center else zero
                p = p / v.dtype.type(d)
                for j in range(end):
                    x_hat = minus(v[r, j], near) * scale + shift
                    dx[r, j] = scale * (dy[r, j] * weight[j] - s - x_hat * p)
                    dweight[j] += dy[r, j] * x_hat
                    dbias[j] += dy[r, j]
            for j in range(end):
                sums[k, 0, j] += dweight[j]
                sums[k, 1, j] += dbias[j]


# Group norm: a row is one group of an example, k channels of l values


@loop
def group_forward(v, length, weight, bias, eps, y, mean, var):
    """Fill y, and mean and variance of each row of a flat v, while it is in a cache."""
    size, step = v.size // mean.size, np.uintp(length)
    k = size // length
    groups = weight.size // k
    for r in prange(mean.size):
        start = np.uintp(r * size)
        near, left, var[r] = run_moments(v, start, start + np.uintp(size), True)
        mean[r], inv_std = near + left, 1 / np.sqrt(var[r] + eps)
        for c in range(r % groups * k, (r % groups + 1) * k):
            a = inv_std * weight[c]
            scale, shift = v.dtype.type(a), v.dtype.type(bias[c] - left * a)
            for j in range(start, start + step):
                y[j] = minus(v[j], near) * scale + shift
            start += step


@loop
def group_backward(dy, v, length, weight, eps, mean, var, dx, sums):
    """Fill dx, and sums (2, r, k) with those of dy and of dy * x_hat of each channel.

    dx = inv_std * (g - mean(g) - x_hat * mean(g * x_hat)) with g = dy * weight
    """
    _, rows, k = sums.shape
    size, step, groups = k * length, np.uintp(length), weight.size // k
    for r in prange(rows):
        near, first = v.dtype.type(mean[r]), r % groups * k
        inv = 1 / np.sqrt(var[r] + eps)
        mean_g, mean_g_x_hat = 0.0, 0.0
        start = np.uintp(r * size)
        for c in range(k):
            total, product = run_sums(dy, v, start, start + step, near)
            product = (product - (mean[r] - near) * total) * inv
            sums[0, r, c], sums[1, r, c] = total, product
            mean_g += weight[first + c] * total / size
            mean_g_x_hat += weight[first + c] * product / size
            start += step
        slope = -inv * inv * mean_g_x_hat
        b, c0 = v.dtype.type(slope), v.dtype.type(-inv * mean_g - slope * (mean[r] - near))
        start = np.uintp(r * size)
        for c in range(first, first + k):
            a = v.dtype.type(inv * weight[c])
            for j in range(start, start + step):
                dx[j] = a * dy[j] + (b * minus(v[j], near) + c0)
            start += step
