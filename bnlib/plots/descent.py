"""Gradient descent on a quadratic in two parameters: contours of the loss and the path."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from bnlib.plots.style import MARKERS, line_style

_GRID = 121  # points along each side
_LEVELS = np.geomspace(0.01, 1.0, 6)  # of the loss, as parts of its value at the start


def descent_path(ax: Axes, hessian: ArrayLike, path: ArrayLike, meaning: str) -> Line2D:
    """Draw contours of e^T H e / 2 and a path of gradient descent towards its minimum e = 0.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; limits and equal units on both axes are set.
    hessian : array_like, shape (2, 2)
        Symmetric, with positive eigenvalues.
    path : array_like, shape (t, 2)
        Distances of the parameters from the minimum, first step to last.
    meaning : str
        A key of `bnlib.plots.LINES`.

    Returns
    -------
    matplotlib.lines.Line2D
        The path.

    Raises
    ------
    ValueError
        If a shape does not fit, or the Hessian is not positive definite.
    """
    hessian, path = np.asarray(hessian, np.float64), np.asarray(path, np.float64)
    if hessian.shape != (2, 2) or np.linalg.eigvalsh(hessian)[0] <= 0:
        raise ValueError(f"hessian: expected shape (2, 2), positive definite, got {hessian}")
    if path.ndim != 2 or path.shape[1] != 2:
        raise ValueError(f"path: expected shape (t, 2), got {path.shape}")
    side = np.linspace(-1.25, 1.25, _GRID) * np.abs(path).max()
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    height, start = (np.einsum("...i,ij,...j", e, hessian, e) / 2 for e in (grid, path[0]))
    color = line_style("reference")["color"]
    ax.contour(side, side, height, levels=start * _LEVELS, colors=color, linewidths=0.6)
    ax.plot(0, 0, MARKERS["reference"], color=color)
    (line,) = ax.plot(*path.T, **line_style(meaning), marker=MARKERS[meaning], ms=3, linewidth=1)
    ax.set_aspect("equal")
    return line
