"""Distributions and tables: histograms a layer, points with intervals, heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike

from bnlib.measure.interval import mean_interval
from bnlib.plots.lines import label_ends
from bnlib.plots.style import MARKERS, line_style

_GROUP_WIDTH = 0.4  # in units of the distance of two groups
_DARK_TEXT, _LIGHT_TEXT = "#111111", "#FAFAFA"  # on coloured cells: the same in both themes
_LUMA = np.array([0.299, 0.587, 0.114])


def layer_histograms(
    axes: Sequence[Axes],
    values: Sequence[ArrayLike],
    titles: Sequence[str],
    meaning: str,
    *,
    limits: tuple[float, float],
    bins: int = 40,
) -> list[Polygon]:
    """Draw one histogram a layer, side by side on the same scale: small multiples.

    Parameters
    ----------
    axes : sequence of matplotlib.axes.Axes
        One a layer, as `plt.subplots(1, 5, sharey=True)` returns them.
    values : sequence of array_like
        The activations of each layer, in any shape; values outside `limits` are not counted.
    titles : sequence of str
        One a layer.
    meaning : str
        A key of `bnlib.plots.LINES`.
    limits : tuple of two floats
        The ends of the common horizontal axis.
    bins : int
        Number of bins.

    Returns
    -------
    list of matplotlib.patches.Polygon
        The histograms; heights are shares of all values of the layer.

    Raises
    ------
    ValueError
        If the three sequences differ in length.
    """
    panels = list(np.ravel(np.asarray(axes, dtype=object)))
    if not len(panels) == len(values) == len(titles):
        raise ValueError(
            "values, titles: expected one for each of the axes, "
            f"got {len(values)} and {len(titles)} for {len(panels)}"
        )
    color = line_style(meaning)["color"]
    patches = []
    for ax, layer, title in zip(panels, values, titles, strict=True):
        layer = np.ravel(layer)
        shares = np.full(layer.size, 1 / layer.size)
        _, _, (patch,) = ax.hist(
            layer, bins, range=limits, weights=shares, histtype="stepfilled", color=color
        )
        ax.set(title=title, xlim=limits, yticks=[])
        ax.spines["left"].set_visible(False)
        patches.append(patch)
    return patches


def points(
    ax: Axes,
    groups: Sequence[str],
    samples: Mapping[str, ArrayLike],
    labels: Mapping[str, str],
) -> dict[str, ErrorbarContainer]:
    """Draw means over seeds with 95 % t-intervals, side by side within each group.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; set its limits, scale and axis labels before.
    groups : sequence of g str
        Names of the groups along the horizontal axis.
    samples : mapping of str to array_like, shape (k, g)
        Meaning -> one row a seed.
    labels : mapping of str to str
        Meaning -> text right of the last group.

    Returns
    -------
    dict of str to matplotlib.container.ErrorbarContainer
        Meaning -> points with intervals.

    Raises
    ------
    ValueError
        If a shape does not fit, or as `bnlib.plots.mean_interval`.
    """
    offsets = _GROUP_WIDTH * (np.arange(len(samples)) - (len(samples) - 1) / 2)
    offsets /= max(len(samples) - 1, 1)
    containers = {}
    for offset, (meaning, rows) in zip(offsets, samples.items(), strict=True):
        if np.shape(rows)[1:] != (len(groups),):
            raise ValueError(
                f"samples[{meaning!r}]: expected shape (k, {len(groups)}), got {np.shape(rows)}"
            )
        mean, low, high = mean_interval(rows)
        container = ax.errorbar(
            np.arange(len(groups)) + offset,
            mean,
            yerr=[mean - low, high - mean],
            color=line_style(meaning)["color"],
            marker=MARKERS[meaning],
            linestyle="none",
            capsize=3,
        )
        container.lines[0].set_label(labels[meaning])
        containers[meaning] = container
    ax.set_xticks(np.arange(len(groups)), groups)
    ax.set_xlim(-0.5, len(groups) - 1 + 0.75 * _GROUP_WIDTH)
    label_ends(ax, [container.lines[0] for container in containers.values()], align=True)
    return containers


def heat_map(
    ax: Axes,
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    form: str = "{:.2f}",
    limits: tuple[float, float] | None = None,
) -> QuadMesh:
    """Draw a table of numbers as coloured cells, each with its number.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    values : array_like, shape (r, c)
        The numbers; the first row is on top. A cell that is not finite stays empty.
    rows, columns : sequence of str
        r and c names.
    form : str
        Format of a number.
    limits : tuple of two floats, optional
        Values of the darkest and the lightest colour; by default the extremes.

    Returns
    -------
    matplotlib.collections.QuadMesh
        The cells.

    Raises
    ------
    ValueError
        If the shape does not fit the names.
    """
    values = np.ma.masked_invalid(np.asarray(values, dtype=np.float64))
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"values: expected shape {(len(rows), len(columns))}, got {values.shape}")
    low, high = limits if limits is not None else (values.min(), values.max())
    mesh = ax.pcolormesh(values, vmin=low, vmax=high, edgecolor="face", linewidth=0.2)
    missing = np.ma.getmaskarray(values)
    for (i, j), value in np.ndenumerate(values):
        if missing[i, j]:
            continue
        is_light = np.dot(mesh.to_rgba(value)[:3], _LUMA) > 0.5
        ax.text(
            j + 0.5,
            i + 0.5,
            form.format(float(value)),
            ha="center",
            va="center",
            color=_DARK_TEXT if is_light else _LIGHT_TEXT,
        )
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.invert_yaxis()
    return mesh
