"""Figures of the backward pass: local derivatives on the graph, and what a check catches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.text import Text
from numpy.typing import ArrayLike

from bnlib.plots.schematics import batch_norm_graph
from bnlib.plots.style import COLORS, PAPER

# The edge of the forward pass -> the derivative of its end with respect to its start, and where
# that stands on the page of `batch_norm_graph`.
_LOCAL_DERIVATIVES = {
    ("x", "centered"): (r"$1$", (1.0, 1.05), "center", "bottom"),
    ("x", "mean"): (r"$1/m$", (0.42, 0.45), "right", "top"),
    ("mean", "centered"): (r"$-1$", (1.6, 0.45), "left", "top"),
    ("centered", "var"): (r"$2c/m$", (2.55, 0.5), "left", "center"),
    ("var", "inv_std"): (r"$-\frac{1}{2}s^3$", (3.53, -0.37), "center", "top"),
    ("inv_std", "x_hat"): (r"$c$", (5.2, 0.5), "left", "center"),
    ("centered", "x_hat"): (r"$s$", (3.7, 1.05), "center", "bottom"),
    ("x_hat", "y"): (r"$\gamma$", (6.25, 0.95), "center", "top"),
    ("gamma", "y"): (r"$\hat{x}$", (6.55, 1.45), "right", "top"),
    ("beta", "y"): (r"$1$", (7.27, 1.5), "left", "center"),
}


def local_derivatives(
    ax: Axes,
) -> tuple[dict[str, FancyBboxPatch], dict[tuple[str, str], Text]]:
    """Draw the graph of batch normalization backward, each arrow with its local derivative.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its axes are switched off.

    Returns
    -------
    boxes : dict of str to matplotlib.patches.FancyBboxPatch
        As `bnlib.plots.batch_norm_graph`.
    labels : dict of (str, str) to matplotlib.text.Text
        Edge of the forward pass, (start, end) -> derivative of its end with respect to its start.
    """
    boxes = batch_norm_graph(ax, backward=True)
    labels = {
        edge: ax.text(*place, text, ha=ha, va=va, color=COLORS["batch"])
        for edge, (text, place, ha, va) in _LOCAL_DERIVATIVES.items()
    }
    return boxes, labels


def check_table(
    ax: Axes, caught: ArrayLike, rows: Sequence[str], columns: Sequence[str]
) -> list[list[Text]]:
    """Draw which check catches which fault: a filled cell is a fault that was missed.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    caught : array_like of bool, shape (r, c)
        Whether the check of the column catches the fault of the row; the first row is on top.
    rows, columns : sequence of str
        Names of the r faults and the c checks.

    Returns
    -------
    list of r lists of c matplotlib.text.Text
        The words in the cells.

    Raises
    ------
    TypeError
        If `caught` is not boolean.
    ValueError
        If its shape does not fit the names.
    """
    caught = np.asarray(caught)
    if caught.dtype != bool:
        raise TypeError(f"caught: expected booleans, got {caught.dtype}")
    if caught.shape != (len(rows), len(columns)):
        raise ValueError(f"caught: expected shape {(len(rows), len(columns))}, got {caught.shape}")
    words: list[list[Text]] = []
    for i, row in enumerate(caught):
        words.append([])
        for j, is_caught in enumerate(row):
            face, ink = (PAPER, "black") if is_caught else (COLORS["reference"], PAPER)
            cell = Rectangle((j, i), 1, 1, facecolor=face, edgecolor="black", linewidth=0.5)
            ax.add_patch(cell)
            word = "caught" if is_caught else "missed"
            words[-1].append(ax.text(j + 0.5, i + 0.5, word, color=ink, ha="center", va="center"))
    ax.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return words
