"""The geometry of a standardized feature: a sphere in a hyperplane, drawn for m = 3."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Polygon
from numpy.typing import ArrayLike, NDArray

from bnlib.plots.style import MARKERS, line_style

_BASIS = np.array([[1, -1, 0], [1, 1, -2], [1, 1, 1]]) / np.sqrt([[2], [6], [3]])
_ELEVATION = np.deg2rad(24)  # of the eye above the plane
_PLANE, _PLANE_TURN = 3.2, 25  # half a diagonal of the square of the plane that is drawn, degrees
_NAME_DISTANCES = np.array([24, 14])  # points from a point to its name, sideways and upward
_RADIUS = np.sqrt(3)


def project(points: ArrayLike) -> NDArray[np.float64]:
    """Project points of space onto the page, the direction (1, 1, 1) upward.

    Parameters
    ----------
    points : array_like, shape (..., 3)
        Values of one feature in a mini-batch of m = 3.

    Returns
    -------
    array, shape (..., 2)
        Coordinates on the page (an orthographic projection).
    """
    right, back, up = np.moveaxis(np.asarray(points) @ _BASIS.T, -1, 0)
    return np.stack([right, np.cos(_ELEVATION) * up + np.sin(_ELEVATION) * back], axis=-1)


def sphere_and_plane(ax: Axes, x: ArrayLike) -> Line2D:
    """Draw for m = 3 that x_hat lies on a circle, where the plane meets the sphere.

    Each x is first moved along (1, 1, 1) into the plane where the values sum to 0 (the mean is
    subtracted), then scaled to the sphere of radius sqrt(m) (divided by the standard deviation).

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its axes are switched off.
    x : array_like, shape (p, 3)
        p mini-batches of three values of one feature, none of them constant; two or three are
        enough. Values within -2 to 2 fit the figure.

    Returns
    -------
    matplotlib.lines.Line2D
        The points x_hat.

    Raises
    ------
    ValueError
        If the shape does not fit or a mini-batch is constant.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != 3:
        raise ValueError(f"x: expected shape (p, 3), got {x.shape}")
    if (np.ptp(x, axis=1) == 0).any():
        raise ValueError(f"x: expected no constant mini-batch, got one in shape {x.shape}")
    ax.set_aspect("equal")
    ax.set_axis_off()
    _draw_surfaces(ax)
    centered = x - x.mean(axis=1, keepdims=True)
    x_hat = centered / x.std(axis=1, keepdims=True)
    stages = project(np.stack([x, centered, x_hat]))  # (3, p, 2)
    for start, end in (stages[:2], stages[1:]):
        for tail, head in zip(start, end, strict=True):
            _draw_arrow(ax, tail, head, "black")
    names = ((r"$x$", "none"), (r"$x-\mu$", "reference"), (r"$\hat{x}$", "batch"))
    first = stages[:, 0]
    directions = (first[0] - first[1], first[1] - first[2], first[2] - first[1])
    for stage, (text, meaning), direction in zip(stages, names, directions, strict=True):
        color = line_style(meaning)["color"]
        (points,) = ax.plot(*stage.T, MARKERS[meaning], color=color)
        offset = _NAME_DISTANCES * direction / np.linalg.norm(direction)
        style: dict[str, Any] = {"color": color, "ha": "center", "va": "center", "size": "large"}
        ax.annotate(text, stage[0], offset, textcoords="offset points", **style)
    return points


def _draw_surfaces(ax: Axes) -> None:
    reference = line_style("reference")["color"]
    turn = np.deg2rad(_PLANE_TURN) + np.pi / 2 * np.arange(4)
    plane = project(_PLANE * np.stack([np.cos(turn), np.sin(turn)], axis=1) @ _BASIS[:2])
    ax.add_patch(Polygon(plane, facecolor=reference, alpha=0.15, linewidth=0))
    ax.add_patch(Circle((0, 0), _RADIUS, fill=False, edgecolor=reference))
    angle = np.linspace(0, np.pi, 100)
    for side, style in ((1, ":"), (-1, "-")):  # behind and in front of the sphere
        half = np.stack([np.cos(angle), side * np.sin(angle)], axis=1) * _RADIUS
        ax.plot(*project(half @ _BASIS[:2]).T, color=line_style("batch")["color"], linestyle=style)
    top = project(1.5 * _RADIUS * _BASIS[2])
    _draw_arrow(ax, np.zeros(2), top, reference)
    ax.text(top[0], top[1], "  (1, 1, 1)", color=reference, va="center")
    text = r"plane $x_1+x_2+x_3=0$"
    ax.text(-_RADIUS, plane[:, 1].min(), text, color=reference, ha="right", va="top")
    edge = _RADIUS * np.array([-np.cos(np.pi / 4), np.sin(np.pi / 4)])
    ax.text(edge[0], edge[1], r"radius $\sqrt{3}$ ", color=reference, ha="right", va="bottom")


def _draw_arrow(ax: Axes, tail: NDArray, head: NDArray, color: str) -> None:
    style: dict[str, Any] = {"arrowstyle": "->", "mutation_scale": 10, "shrinkA": 3, "shrinkB": 3}
    ax.add_patch(FancyArrowPatch(tuple(tail), tuple(head), color=color, **style))
