"""Arithmetic along any axes, block by block: what makes the one kernel fast and accurate.

Every choice of axes is brought to one form, a view of shape (b, n, c, l) in which n and l are
averaged over while b and c are kept: (m, d) becomes (1, m, d, 1), (n, c, h, w) becomes
(1, n, c, h w), and the (m, d) of layer norm becomes (m, 1, 1, d). The work then goes through
blocks that stay in the processor's cache, in the order in which they lie in memory.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 2**20  # elements of a block: 4 MB in float32
ROW, COLUMN = 4096, 256  # numbers added in their own precision before float64 takes over
LONG_ROW = 2**12  # elements: from here on, broadcasting one number along a row costs nothing


class Layout(NamedTuple):
    """How an array of some shape is seen as (b, n, c, l)."""

    order: tuple[int, ...]  # the axes in the order in which they merge
    back: tuple[int, ...]  # the inverse of that order
    moved: tuple[int, ...]  # the array's shape in that order
    bncl: tuple[int, int, int, int]
    blocks: tuple[tuple[slice, slice], ...]  # of b and n, that together cover the array

    def view(self, x: np.ndarray) -> np.ndarray:
        """`x` as (b, n, c, l); a copy only where `x` has no such view."""
        return x.transpose(self.order).reshape(self.bncl)

    def restore(self, x: np.ndarray) -> np.ndarray:
        """Undo `view`."""
        return x.reshape(self.moved).transpose(self.back)

    def zeros(self) -> np.ndarray:
        """Return one float64 zero a channel, (b, 1, c, 1)."""
        b, _, c, _ = self.bncl
        return np.zeros((b, 1, c, 1))

    def channels(self, parameter: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """`parameter`, one value a channel, as (b, 1, c, 1)."""
        b, _, c, _ = self.bncl
        return parameter.reshape(b, 1, c, 1).astype(dtype, copy=False)

    def spread(self, statistic: np.ndarray) -> np.ndarray:
        """Return `statistic` (b, 1, c, 1), repeated along rows that are short.

        NumPy runs one inner loop a row if it must broadcast one number along it, and short
        inner loops are slow.
        """
        _, n, _, l = self.bncl  # noqa: E741
        return np.repeat(statistic, l, axis=3) if 1 < l < LONG_ROW and n > 1 else statistic


@functools.lru_cache(maxsize=256)
def layout(shape: tuple[int, ...], axes: tuple[int, ...]) -> Layout:
    """Return the (b, n, c, l) layout of `shape` when `axes` are averaged over."""
    order = tuple(range(len(shape)))
    runs = _runs(shape, axes, order)
    if len(runs) > 4:  # kept and averaged axes alternate too often: bring the kept ones together
        order = tuple(axis for axis in order if axis not in axes) + axes
        runs = _runs(shape, axes, order)
    if len(runs) == 2:  # rows of averaged values, as in layer norm
        runs = [runs[0], 1, 1, runs[1]]
    while len(runs) < 4:
        runs.insert(0, 1)
    back = tuple(int(axis) for axis in np.argsort(order))
    moved = tuple(shape[axis] for axis in order)
    b, n, c, l = runs  # noqa: E741
    return Layout(order, back, moved, (b, n, c, l), tuple(_blocks(b, n, c, l)))


def _blocks(b: int, n: int, c: int, l: int) -> Iterator[tuple[slice, slice]]:  # noqa: E741
    """Yield slices of b and n that together cover the array, each of about `BLOCK` elements."""
    images = min(max(BLOCK // (c * l), 1), n)
    groups = max(BLOCK // (images * c * l), 1)
    for i in range(0, b, groups):
        for j in range(0, n, images):
            yield slice(i, i + groups), slice(j, j + images)


def _runs(shape: tuple[int, ...], axes: tuple[int, ...], order: tuple[int, ...]) -> list[int]:
    """Sizes of the runs of neighbouring kept and averaged axes, ending with an averaged one."""
    runs: list[int] = []
    previous = None
    for axis in order:
        if (axis in axes) == previous:
            runs[-1] *= shape[axis]
        else:
            runs.append(shape[axis])
            previous = axis in axes
    return runs if previous else [*runs, 1]


def block_sum(x: np.ndarray) -> np.ndarray:
    """Sum (b, n, c, l) over n and l; short runs in x's own precision, their sum in float64."""
    if x.shape[-1] > 1:
        return _add_up([p @ np.ones(p.shape[-1], x.dtype) for p in _cut_rows(x)])
    return _add_up([np.ones(p.shape[2], x.dtype) @ p for p in _cut_columns(x)])


def block_dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum x * y over n and l; short runs in their own precision, their sum in float64."""
    if x.shape[-1] > 1:
        pairs = zip(_cut_rows(x), _cut_rows(y), strict=True)
        return _add_up([np.vecdot(p, q) for p, q in pairs])
    pairs = zip(_cut_columns(x), _cut_columns(y), strict=True)
    return _add_up([np.einsum("bprc,bprc->bpc", p, q) for p, q in pairs])


def _cut_rows(x: np.ndarray) -> list[np.ndarray]:
    """Cut (b, n, c, l) along l into parts of at most `ROW`."""
    return [x[..., start : start + ROW] for start in range(0, x.shape[-1], ROW)]


def _cut_columns(x: np.ndarray) -> list[np.ndarray]:
    """Cut (b, n, c, 1) along n into (b, pieces, `COLUMN`, c) and the rest (b, 1, rows, c)."""
    b, n, c, _ = x.shape
    whole = n - n % COLUMN
    pieces = [x[:, :whole].reshape(b, -1, COLUMN, c)] if whole else []
    return [*pieces, x[:, None, whole:, :, 0]] if n > whole else pieces


def _add_up(parts: list[np.ndarray]) -> np.ndarray:
    """Sum (b, anything, c) arrays over the middle, in float64, as (b, 1, c, 1)."""
    total = parts[0].sum(axis=1, dtype=np.float64)
    for part in parts[1:]:
        total += part.sum(axis=1, dtype=np.float64)
    return total[:, None, :, None]


def kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with length 1 on `axes`: the shape that broadcasts against the array."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
