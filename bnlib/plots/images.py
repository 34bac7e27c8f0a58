"""Rows of small grey images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

_GAP = 0.1  # between two images, in widths of an image


def image_rows(
    ax: Axes, rows: Mapping[str, ArrayLike], *, limits: tuple[float, float] = (0.0, 1.0)
) -> list[AxesImage]:
    """Draw each row of images side by side, with its name on the left.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its frame is switched off.
    rows : mapping of str to array_like, shape (n, h, w)
        Name -> images, the first row on top.
    limits : tuple of two floats
        The values that are black and white; what lies outside looks like the nearer of them.

    Returns
    -------
    list of matplotlib.image.AxesImage
        The images, row by row.

    Raises
    ------
    ValueError
        If there is no row, or the rows differ in shape or do not have three axes.
    """
    arrays = [np.asarray(images) for images in rows.values()]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or arrays[0].ndim != 3:
        raise ValueError(f"rows: expected images of one shape (n, h, w), got {sorted(shapes)}")
    n = len(arrays[0])
    drawn = [
        ax.imshow(
            image,
            cmap="gray",
            vmin=limits[0],
            vmax=limits[1],
            extent=(j * (1 + _GAP), j * (1 + _GAP) + 1, -(i * (1 + _GAP)) - 1, -i * (1 + _GAP)),
            interpolation="nearest",
        )
        for i, images in enumerate(arrays)
        for j, image in enumerate(images)
    ]
    ax.set_xlim(0, n * (1 + _GAP) - _GAP)
    ax.set_ylim(-len(arrays) * (1 + _GAP) + _GAP, 0)
    ax.set_yticks([-i * (1 + _GAP) - 0.5 for i in range(len(arrays))], list(rows))
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return drawn
