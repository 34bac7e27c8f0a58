"""Schematics drawn by code: axes of averaging, networks, and computational graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from numpy.typing import NDArray

from bnlib.plots.style import COLORS, PAPER

_EXAMPLES, _CHANNELS, _PIXELS = 4, 6, 4  # cells of the block of averaging_axes
_DEPTH = np.array([0.45, 0.35])  # on the page, of one cell along the axis of examples

_LAYER_DISTANCE = 3.0  # of two columns of `network`, in distances of two units

_AVERAGED = {  # norm -> the examples and the channels that share one mean, and the colour
    "batch": (slice(None), slice(-1, None), "batch"),
    "ghost": (slice(0, 2), slice(-1, None), "batch"),
    "layer": (slice(0, 1), slice(None), "layer"),
    "instance": (slice(0, 1), slice(-1, None), "group"),  # group norm with one channel a group
    "group": (slice(0, 1), slice(-3, None), "group"),
    "none": (slice(0, 0), slice(0, 0), "none"),
}


def averaging_axes(ax: Axes, norm: str) -> PolyCollection:
    """Draw a block of images (n, c, h, w) with the values that share one mean in colour.

    After Wu and He, *Group Normalization*, 2018, figure 2.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its axes are switched off.
    norm : {"batch", "ghost", "layer", "instance", "group", "none"}
        The norm; ghost batch norm is drawn with two examples a part, group norm with three channels
        a group.

    Returns
    -------
    matplotlib.collections.PolyCollection
        The visible faces of the cells; those averaged over are filled.

    Raises
    ------
    ValueError
        If there is no such norm.
    """
    if norm not in _AVERAGED:
        raise ValueError(f"norm: expected one of {', '.join(_AVERAGED)}, got {norm!r}")
    examples, channels, meaning = _AVERAGED[norm]
    averaged = np.zeros((_EXAMPLES, _CHANNELS), dtype=bool)
    averaged[examples, channels] = True
    faces, filled = _visible_faces(averaged)
    cells = PolyCollection(
        faces,
        facecolors=[COLORS[meaning] if fill else PAPER for fill in filled],
        edgecolors=COLORS["reference"],
        linewidths=0.8,
    )
    ax.add_collection(cells)
    depth = _EXAMPLES * _DEPTH
    ax.text(_CHANNELS / 2, -0.3, "channels $c$", ha="center", va="top")
    ax.text(-0.3, _PIXELS / 2, "pixels $h, w$", ha="right", va="center", rotation=90)
    ax.text(
        depth[0] / 2 - 0.3,
        _PIXELS + depth[1] / 2 + 0.1,
        "examples $n$",
        ha="right",
        va="bottom",
    )
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_xlim(-1.2, _CHANNELS + depth[0] + 0.2)
    ax.set_ylim(-1.2, _PIXELS + depth[1] + 0.2)
    return cells


def _visible_faces(averaged: NDArray[np.bool_]) -> tuple[list[NDArray], list[bool]]:
    """Return the polygons of the front, the top and the right side, and which are averaged."""
    right, up = np.eye(2)
    faces, filled = [], []

    def add(corner: NDArray, side: NDArray, other: NDArray, fill: bool) -> None:
        faces.append(np.array([corner, corner + side, corner + side + other, corner + other]))
        filled.append(bool(fill))

    for c in range(_CHANNELS):
        for p in range(_PIXELS):
            add(np.array([c, p]), right, up, averaged[0, c])
        for n in range(_EXAMPLES):
            add(np.array([c, _PIXELS]) + n * _DEPTH, right, _DEPTH, averaged[n, c])
    for n in range(_EXAMPLES):
        for p in range(_PIXELS):
            add(np.array([_CHANNELS, p]) + n * _DEPTH, _DEPTH, up, averaged[n, -1])
    return faces, filled


def network(
    ax: Axes,
    units: Sequence[int],
    *,
    names: Sequence[str],
    weights: Sequence[str],
    highlight: tuple[int, int] | None = None,
) -> list[list[Circle]]:
    """Draw a fully connected network: a circle per unit, a line per weight.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its axes are switched off.
    units : sequence of int
        How many circles each layer has, the input first.
    names : sequence of str
        Texts below the columns of circles.
    weights : sequence of str
        Texts above the lines between two columns, one fewer than there are columns.
    highlight : tuple of two ints, optional
        Layer and unit, both counted from 0, whose incoming weights are drawn in colour.

    Returns
    -------
    list of list of matplotlib.patches.Circle
        The circles of each layer, from the top.

    Raises
    ------
    ValueError
        If the numbers of texts do not fit, a layer has no unit, or there is no such unit to
        highlight.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from bnlib.plots import network
    >>> ax = plt.figure().subplots()
    >>> circles = network(ax, (2, 3), names=("$x$", "$z$"), weights=("$W, b$",))
    >>> [len(column) for column in circles]
    [2, 3]
    """
    if len(units) < 2 or min(units) < 1:
        raise ValueError(f"units: expected two or more layers of at least one unit, got {units}")
    if (len(names), len(weights)) != (len(units), len(units) - 1):
        raise ValueError(
            f"names, weights: expected {len(units)} and {len(units) - 1} texts, "
            f"got {len(names)} and {len(weights)}"
        )
    if highlight is not None:
        layer, unit = highlight
        if not (0 < layer < len(units) and 0 <= unit < units[layer]):
            raise ValueError(f"highlight: expected a unit that has weights, got {highlight}")
    top = (max(units) - 1) / 2
    columns = [
        [(_LAYER_DISTANCE * layer, (n - 1) / 2 - unit) for unit in range(n)]
        for layer, n in enumerate(units)
    ]
    for layer, (before, after) in enumerate(pairwise(columns), start=1):
        for unit, end in enumerate(after):
            marked = (layer, unit) == highlight
            for start in before:
                ax.plot(
                    *zip(start, end, strict=True),
                    linestyle="-",
                    color=COLORS["none" if marked else "reference"],
                    linewidth=1.6 if marked else 0.5,
                    zorder=2 if marked else 1,
                )
        middle = _LAYER_DISTANCE * (layer - 0.5)
        above = (max(len(before), len(after)) - 1) / 2 + 0.5
        ax.text(middle, above, weights[layer - 1], ha="center", va="bottom")
    circles: list[list[Circle]] = []
    for layer, column in enumerate(columns):
        ax.text(column[0][0], -top - 0.75, names[layer], ha="center", va="top")
        circles.append([])
        for unit, centre in enumerate(column):
            marked = (layer, unit) == highlight
            circle = Circle(
                centre,
                0.32,
                facecolor=PAPER,
                edgecolor=COLORS["none"] if marked else "black",
                linewidth=1.6 if marked else 0.9,
                zorder=3,
            )
            ax.add_patch(circle)
            circles[-1].append(circle)
    ax.set_xlim(-1, _LAYER_DISTANCE * (len(units) - 1) + 1)
    ax.set_ylim(-top - 2.2, top + 1.6)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return circles


def graph(
    ax: Axes,
    nodes: Mapping[str, tuple[float, float, str]],
    edges: Sequence[tuple[str, str]],
    *,
    color: str = "black",
    size: tuple[float, float] = (0.9, 0.6),
    widths: Mapping[str, float] | None = None,
    highlight: Sequence[str] = (),
) -> dict[str, FancyBboxPatch]:
    """Draw a computational graph: a box a node, an arrow an edge.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its axes are switched off.
    nodes : mapping of str to (float, float, str)
        Key -> centre on the page and text.
    edges : sequence of (str, str)
        Keys of the node where an arrow starts and where it ends.
    color : str
        Colour of the arrows.
    size : tuple of two floats
        Width and height of a box.
    widths : mapping of str to float, optional
        Key -> width of a box with a long text.
    highlight : sequence of str
        Keys of the nodes with a border in the colour of batch normalization.

    Returns
    -------
    dict of str to matplotlib.patches.FancyBboxPatch
        Key -> box.

    Raises
    ------
    ValueError
        If an edge or `highlight` names a node that does not exist.
    """
    unknown = {key for edge in edges for key in edge}.union(highlight) - set(nodes)
    if unknown:
        raise ValueError(f"edges, highlight: expected keys of nodes, got {sorted(unknown)}")
    width, height = size
    boxes = {}
    for key, (x, y, text) in nodes.items():
        box_width = (widths or {}).get(key, width)
        boxes[key] = FancyBboxPatch(
            (x - box_width / 2, y - height / 2),
            box_width,
            height,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=PAPER,
            edgecolor=COLORS["batch"] if key in highlight else "black",
            linewidth=1.6 if key in highlight else 0.9,
        )
        ax.add_patch(boxes[key])
        ax.text(x, y, text, ha="center", va="center")
    for start, end in edges:
        arrow = FancyArrowPatch(
            nodes[start][:2],
            nodes[end][:2],
            patchA=boxes[start],
            patchB=boxes[end],
            arrowstyle="-|>",
            mutation_scale=10,
            color=color,
            shrinkA=1,
            shrinkB=1,
        )
        ax.add_patch(arrow)
    centres = np.array([node[:2] for node in nodes.values()])
    ax.set_xlim(centres[:, 0].min() - width, centres[:, 0].max() + width)
    ax.set_ylim(centres[:, 1].min() - height, centres[:, 1].max() + height)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return boxes


_BATCH_NORM_NODES = {
    "x": (0.0, 1.0, "$x$"),
    "mean": (1.0, 0.0, r"$\mu$"),
    "centered": (2.0, 1.0, r"$c = x-\mu$"),
    "var": (2.9, 0.0, r"$\sigma^2$"),
    "inv_std": (4.85, 0.0, r"$s = (\sigma^2+\epsilon)^{-1/2}$"),
    "x_hat": (5.3, 1.0, r"$\hat{x}$"),
    "gamma": (6.0, 2.0, r"$\gamma$"),
    "beta": (7.2, 2.0, r"$\beta$"),
    "y": (7.2, 1.0, "$y$"),
}
_BATCH_NORM_EDGES = [
    ("x", "mean"),
    ("x", "centered"),
    ("mean", "centered"),
    ("centered", "var"),
    ("var", "inv_std"),
    ("inv_std", "x_hat"),
    ("centered", "x_hat"),
    ("x_hat", "y"),
    ("gamma", "y"),
    ("beta", "y"),
]


def batch_norm_graph(
    ax: Axes, *, backward: bool = False, highlight: Sequence[str] = ()
) -> dict[str, FancyBboxPatch]:
    """Draw the computational graph of batch normalization.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its axes are switched off.
    backward : bool
        Whether the arrows run backward, as gradients flow.
    highlight : sequence of str
        Keys of the nodes with a border in the colour of batch normalization, out of ``x mean
        centered var inv_std x_hat gamma beta y``.

    Returns
    -------
    dict of str to matplotlib.patches.FancyBboxPatch
        Key -> box.
    """
    edges = _BATCH_NORM_EDGES
    if backward:
        edges = [(end, start) for start, end in edges]
    color = COLORS["batch"] if backward else "black"
    widths = {"centered": 1.3, "inv_std": 2.3}
    return graph(ax, _BATCH_NORM_NODES, edges, color=color, widths=widths, highlight=highlight)


_TREE_SIZE = (4.2, 5.6)  # inches: as wide as a phone shows it without making the letters small


def decision_tree(
    ax: Axes, steps: Sequence[tuple[str, str, str]], *, last: str, answers: tuple[str, str]
) -> list[FancyBboxPatch]:
    """Draw questions from top to bottom, each with an answer that leads to a cause at its right.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its axes are switched off, and its figure gets the shape of a phone.
    steps : sequence of tuple of str
        Question, the answer that leads to the cause, and the cause.
    last : str
        What is left if no question led to a cause.
    answers : tuple of str
        The two answers; the one that does not lead to the cause leads to the next question.

    Returns
    -------
    list of matplotlib.patches.FancyBboxPatch
        The boxes of the questions and of their causes, in turns, and at the end that of `last`.

    Raises
    ------
    ValueError
        If an answer of a step is none of `answers`.
    """
    for _, answer, _ in steps:
        if answer not in answers:
            raise ValueError(f"steps: expected the answers {' or '.join(answers)}, got {answer!r}")
    if isinstance(ax.figure, Figure):
        ax.figure.set_size_inches(*_TREE_SIZE)
    boxes = []
    for row, (question, answer, cause) in enumerate(steps):
        boxes += [_box(ax, 0, -row, 2.3, question), _box(ax, 3.05, -row, 1.9, cause, "batch")]
        _arrow(ax, (2.3, -row), (3.05, -row))
        ax.text(2.67, -row + 0.06, answer, ha="center", va="bottom")
        _arrow(ax, (1.15, -row - 0.36), (1.15, -row - 0.64))
        other = answers[answers.index(answer) - 1]
        ax.text(1.25, -row - 0.5, other, ha="left", va="center")
    boxes.append(_box(ax, 0, -len(steps), 2.3, last, "batch"))
    ax.set_xlim(-0.05, 5)
    ax.set_ylim(-len(steps) - 0.45, 0.45)
    ax.set_axis_off()
    return boxes


def _box(
    ax: Axes, left: float, y: float, width: float, text: str, meaning: str = "reference"
) -> FancyBboxPatch:
    box = FancyBboxPatch(
        (left, y - 0.36),
        width,
        0.72,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=PAPER,
        edgecolor=COLORS[meaning],
    )
    ax.add_patch(box)
    ax.text(left + width / 2, y, text, ha="center", va="center")
    return box


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=10, color="black", shrinkA=0, shrinkB=0
    )
    ax.add_patch(arrow)
