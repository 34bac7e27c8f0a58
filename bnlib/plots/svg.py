"""Turn a matplotlib figure into inline SVG that follows the theme of the page."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from bnlib.plots.style import COLORS, PAPER

MAX_VECTOR_POINTS = 5000
"""A figure with more points than this has its large artists drawn as a bitmap inside the SVG."""

_MARGIN = 0.05  # inches above and below the figure
_LARGE_ARTIST_POINTS = 500
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_PIXELS_PER_POINT = 96 / 72
_VARIABLES = {
    to_hex(color): f"var(--bn-{meaning}, {color})"
    for meaning, color in {**COLORS, "paper": PAPER}.items()
} | {"#000000": "currentColor"}
_PAINT = re.compile(r"(fill|stroke|stop-color|color): ?(#[0-9a-fA-F]{6})\b")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def to_svg(fig: Figure, name: str, alt: str) -> str:
    """Render a figure as one `<svg>` element to be put into an HTML page.

    Black becomes `currentColor` and each colour of the palette a CSS variable with that colour as
    its fall-back, so the figure follows the theme live. Every id starts with `name`, so that the
    figures of a page do not refer to each other's parts. The same figure gives the same bytes.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        The figure; it stays open. Above `MAX_VECTOR_POINTS` points its large lines, collections
        and meshes are rasterized, and those parts keep their light colours in the dark theme.
    name : str
        Prefix of the ids.
    alt : str
        The alternative text.

    Returns
    -------
    str
        The element, as wide as the page allows up to the width of the figure.
    """
    _rasterize_large_artists(fig)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path", "svg.id": None}):
        fig.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None}, bbox_inches=_crop(fig)
        )
    root = ElementTree.fromstring(buffer.getvalue())
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter():
        _adapt(element, name)
    _set_frame(root, name, alt)
    return ElementTree.tostring(root, encoding="unicode")


def _crop(fig: Figure) -> Bbox:
    """Return what to show, in inches: the full width, and only as much height as is used."""
    fig.draw_without_rendering()
    used = fig.get_tightbbox()
    left, right = min(0.0, used.x0), max(fig.get_figwidth(), used.x1)
    return Bbox.from_extents(left, used.y0 - _MARGIN, right, used.y1 + _MARGIN)


def _rasterize_large_artists(fig: Figure) -> None:
    sizes = {artist: _count_points(artist) for artist in fig.findobj()}
    if sum(sizes.values()) > MAX_VECTOR_POINTS:
        for artist, size in sizes.items():
            if size > _LARGE_ARTIST_POINTS:
                artist.set_rasterized(True)


def _count_points(artist: Artist) -> int:
    """Count the points of a line or a collection; 0 for what is neither."""
    if isinstance(artist, Line2D):
        return len(np.asarray(artist.get_xydata()))
    if isinstance(artist, Collection):
        vertices = sum(len(np.asarray(path.vertices)) for path in artist.get_paths())
        return max(len(np.asarray(artist.get_offsets())), vertices)
    return 0


def _adapt(element: ElementTree.Element, name: str) -> None:
    """Prefix ids and references, replace the colours and shorten the numbers of one element."""
    element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    element.text = (element.text or "").strip()
    element.tail = None
    if element.tag == "style":  # a rule for `*` would hold for the whole page
        element.text = element.text.replace("*{", f"#{name}-svg *{{")
    if _HREF in element.attrib:
        element.set("href", element.attrib.pop(_HREF))
    for key, value in element.attrib.items():
        if key == "id":
            value = f"{name}-{value}"
        elif key == "href" and value.startswith("#"):
            value = f"#{name}-{value[1:]}"
        elif key == "d":
            value = _NUMBER.sub(lambda match: f"{float(match[0]):.2f}", value)
        elif key == "style":
            value = _PAINT.sub(_themed, value)
        element.set(key, value.replace("url(#", f"url(#{name}-"))


def _themed(match: re.Match[str]) -> str:
    color = match[2].lower()
    return f"{match[1]}: {_VARIABLES.get(color, color)}"


def _set_frame(root: ElementTree.Element, name: str, alt: str) -> None:
    _, _, width, _ = (float(number) for number in root.attrib["viewBox"].split())
    view_box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update(
        {
            "xmlns": _SVG,
            "id": f"{name}-svg",
            "class": "bn-figure",
            "role": "img",
            "aria-label": alt,
            "viewBox": view_box,
            # Matplotlib writes no colour for black fills (text): they inherit this one.
            "style": f"--bn-width: {width * _PIXELS_PER_POINT:.0f}px; width: 100%; "
            "max-width: var(--bn-width); height: auto; fill: currentColor",
        }
    )
