"""What a convolution does: a kernel on one window of an image, and the feature map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from bnlib.plots.style import COLORS, PAPER

_GAP = 1.6  # between two of the three grids, in cells
_FRAME = 2.2  # width of the frames around the window and its value


class Convolution(NamedTuple):
    """What `convolution_window` drew.

    Attributes
    ----------
    image, kernel, feature_map : list of list of matplotlib.text.Text
        The numbers in the cells, row by row.
    window, value : matplotlib.patches.Rectangle
        The frames around the window of the image and around what the kernel makes of it.
    """

    image: list[list[Text]]
    kernel: list[list[Text]]
    feature_map: list[list[Text]]
    window: Rectangle
    value: Rectangle


def convolution_window(
    ax: Axes, image: ArrayLike, kernel: ArrayLike, at: tuple[int, int]
) -> Convolution:
    """Draw an image, a kernel and their feature map, with one window and its value in frames.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its axes are switched off.
    image : array_like, shape (h, w)
        Small numbers, best integers.
    kernel : array_like, shape (kh, kw)
        Not larger than the image. It is not flipped, stride 1, no padding.
    at : pair of int
        Row and column of the upper left corner of the window, and of its value in the map.

    Returns
    -------
    Convolution
        The texts and the frames.

    Raises
    ------
    ValueError
        If the kernel does not fit into the image, or there is no such window.
    """
    x, w = np.asarray(image), np.asarray(kernel)
    if x.ndim != 2 or w.ndim != 2 or not all(a >= b for a, b in zip(x.shape, w.shape, strict=True)):
        raise ValueError(
            f"kernel: expected two axes and at most the size of the image, got {w.shape} "
            f"for an image of shape {x.shape}"
        )
    y = (sliding_window_view(x, w.shape) * w).sum(axis=(-2, -1))
    if not all(0 <= place < size for place, size in zip(at, y.shape, strict=True)):
        raise ValueError(f"at: expected a place in a feature map of shape {y.shape}, got {at}")

    lefts = np.cumsum([0, x.shape[1] + _GAP, w.shape[1] + _GAP])
    height = x.shape[0]
    tops = [0.0, (height - w.shape[0]) / 2, (height - y.shape[0]) / 2]
    places = zip((x, w, y), lefts, tops, ("image", "kernel", "feature map"), strict=True)
    image_texts, kernel_texts, map_texts = (
        _grid(ax, values, left, top, name) for values, left, top, name in places
    )
    for sign, left in zip(("*", "="), lefts[1:], strict=True):
        ax.text(left - _GAP / 2, height / 2, sign, ha="center", va="center", fontsize=14)
    row, column = at
    window = _frame(ax, (lefts[0] + column, tops[0] + row), w.shape)
    value = _frame(ax, (lefts[2] + column, tops[2] + row), (1, 1))
    ax.set_xlim(-0.2, lefts[2] + y.shape[1] + 0.2)
    ax.set_ylim(height + 0.2, -0.9)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return Convolution(image_texts, kernel_texts, map_texts, window, value)


def _grid(ax: Axes, values: NDArray, left: float, top: float, name: str) -> list[list[Text]]:
    """Draw numbers in square cells with a name above, the first row on top."""
    rows, columns = values.shape
    ax.text(left + columns / 2, top - 0.25, name, ha="center", va="bottom")
    texts: list[list[Text]] = []
    for i in range(rows):
        texts.append([])
        for j in range(columns):
            cell = Rectangle(
                (left + j, top + i),
                1,
                1,
                facecolor=PAPER,
                edgecolor=COLORS["reference"],
                linewidth=0.8,
            )
            ax.add_patch(cell)
            text = f"{values[i, j]:g}".replace("-", "\N{MINUS SIGN}")
            texts[-1].append(ax.text(left + j + 0.5, top + i + 0.5, text, ha="center", va="center"))
    return texts


def _frame(ax: Axes, corner: tuple[float, float], shape: tuple[int, ...]) -> Rectangle:
    frame = Rectangle(
        corner, shape[1], shape[0], fill=False, edgecolor="black", linewidth=_FRAME, zorder=3
    )
    ax.add_patch(frame)
    return frame
