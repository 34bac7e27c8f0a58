"""Lines with intervals and with labels at their ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from bnlib.measure.interval import mean_interval
from bnlib.plots.style import line_style

_LABEL_OFFSET = 6  # points between the end of a line and its label
_LABEL_PADDING = 1.15  # distance of two labels, in heights of a label


def band(
    ax: Axes, x: ArrayLike, samples: ArrayLike, meaning: str, label: str | None = None
) -> Line2D:
    """Draw the mean over seeds as a line and its 95 % t-interval as a band.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    x : array_like, shape (t,)
        Steps, layers, ...
    samples : array_like, shape (k, t)
        One row a seed.
    meaning : str
        A key of `bnlib.plots.LINES`.
    label : str, optional
        Text for `label_ends`.

    Returns
    -------
    matplotlib.lines.Line2D
        The line of the mean.

    Raises
    ------
    ValueError
        If the shapes do not fit, or as `mean_interval`.
    """
    x, samples = np.asarray(x), np.asarray(samples)
    if x.ndim != 1 or samples.shape[1:] != x.shape:
        raise ValueError(
            f"samples: expected shape (k, t) with x (t,), got {samples.shape}, x {x.shape}"
        )
    style = line_style(meaning)
    mean, low, high = mean_interval(samples)
    ax.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
    (line,) = ax.plot(x, mean, label=label, **style)
    return line


def plot_bands(
    ax: Axes, x: ArrayLike, samples: Mapping[str, ArrayLike], labels: Mapping[str, str]
) -> list[Line2D]:
    """Draw one line with its band a meaning, labelled at the ends: training curves over seeds.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; set its limits, scales and axis labels before.
    x : array_like, shape (t,)
        Steps.
    samples : mapping of str to array_like, shape (k, t)
        Meaning -> one row a seed.
    labels : mapping of str to str
        Meaning -> text at the end of the line.

    Returns
    -------
    list of matplotlib.lines.Line2D
        The lines of the means, in the order of `samples`.
    """
    lines = [band(ax, x, rows, meaning, labels[meaning]) for meaning, rows in samples.items()]
    label_ends(ax, lines)
    return lines


def label_ends(
    ax: Axes, lines: Sequence[Line2D] | None = None, *, align: bool = False
) -> list[Annotation]:
    """Write each line's label at its right end, in its colour, pushed apart where they overlap.

    Call it last: it needs the final limits and scales of the axes.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The axes of the lines.
    lines : sequence of matplotlib.lines.Line2D, optional
        The lines to label; by default every line of `ax` that was drawn with a `label`.
    align : bool
        Whether all labels start at the right edge of the axes, one below the other.

    Returns
    -------
    list of matplotlib.text.Annotation
        The labels, in the order of the lines.

    Raises
    ------
    ValueError
        If there is no line to label, or a line has no finite point.

    Notes
    -----
    The heights are the least-squares solution under the condition that neighbours keep their
    distance (an isotonic regression), then moved inside the axes.
    """
    if lines is None:
        lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    if not lines:
        raise ValueError("lines: expected at least one line with a label, got none")
    ends = [_last_point(line) for line in lines]
    if align:
        ends = [(ax.get_xlim()[1], y) for _, y in ends]
    labels = [
        ax.annotate(
            str(line.get_label()),
            xy=end,
            xytext=(_LABEL_OFFSET, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,
        )
        for line, end in zip(lines, ends, strict=True)
    ]
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes that hold lines are on one
    figure.draw_without_rendering()  # lays the axes out, so that heights in pixels are final
    heights = ax.transData.transform(ends)[:, 1]
    gap = _LABEL_PADDING * max(label.get_window_extent().height for label in labels)
    shifts = (_spread(heights, gap, ax.bbox.y0, ax.bbox.y1) - heights) * 72 / ax.figure.dpi
    for label, shift in zip(labels, shifts, strict=True):
        label.set_position((_LABEL_OFFSET, shift))
    return labels


def _last_point(line: Line2D) -> tuple[float, float]:
    points = np.asarray(line.get_xydata(), dtype=np.float64)
    finite = points[np.isfinite(points).all(axis=1)]
    if len(finite) == 0:
        raise ValueError(f"lines: expected finite points in {line.get_label()!r}, got none")
    x, y = finite[-1]
    return x, y


def _spread(heights: NDArray, gap: float, bottom: float, top: float) -> NDArray:
    """Return the heights nearest to the given ones that are at least `gap` apart."""
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    base = isotonic_regression(np.clip(heights[order], bottom, top) - steps).x
    base = np.clip(base, bottom, max(bottom, top - steps[-1]))
    spread = np.empty_like(heights)
    spread[order] = base + steps
    return spread
