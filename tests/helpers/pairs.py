"""Fewer cases than the full grid: each value still meets every value of each other axis."""

from collections.abc import Iterable
from itertools import combinations, product


def pairwise(*axes: Iterable) -> list[tuple]:
    """Choose rows of the grid of `axes` that hold every pair of values of two axes.

    Greedy: the next row is the first one that holds the most pairs which no row holds yet.
    """
    axes = [list(axis) for axis in axes]
    grid = {
        row: set(combinations(enumerate(row), 2)) for row in product(*(range(len(a)) for a in axes))
    }
    left, chosen = set().union(*grid.values()), []
    while left:
        row = max(grid, key=lambda row: len(grid[row] & left))
        chosen.append(tuple(axis[i] for axis, i in zip(axes, row, strict=True)))
        left -= grid[row]
    return chosen
