"""The style sheet and the palette: one meaning a colour, the same through the whole book."""

from __future__ import annotations

from typing import Any

import matplotlib.style

COLORS: dict[str, str] = {
    "none": "#0072B2",  # no normalization
    "batch": "#B84E00",
    "layer": "#00664A",
    "group": "#A94C82",
    "reference": "#666666",  # a reference or a theory value
}
"""Meaning -> colour on a light background; contrast with white is at least 5:1."""

DARK_COLORS: dict[str, str] = {
    "none": "#4DB2F0",
    "batch": "#F58A3C",
    "layer": "#1FAF82",
    "group": "#F2A0D0",
    "reference": "#A6A6A6",
}
"""Meaning -> colour on a dark background: the values for the CSS variables of `theme_css`."""

LINES: dict[str, dict[str, Any]] = {
    "none": {"color": COLORS["none"], "linestyle": "-"},
    "batch": {"color": COLORS["batch"], "linestyle": "--"},
    "layer": {"color": COLORS["layer"], "linestyle": "-."},
    "group": {"color": COLORS["group"], "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    "reference": {"color": COLORS["reference"], "linestyle": ":"},
}
"""Meaning -> keyword arguments of `matplotlib.axes.Axes.plot`; no colour is ever alone."""

MARKERS: dict[str, str] = {"none": "o", "batch": "s", "layer": "^", "group": "D", "reference": "v"}
"""Meaning -> marker, for figures of points."""

PAPER = "#FFFFFF"
"""The colour of the page; it follows the theme too (CSS variable `--bn-paper`)."""

DARK_PAPER = "#121212"
"""The colour of the page in the dark theme."""


def use_style() -> None:
    """Use the book's style sheet for all figures drawn from now on.

    Examples
    --------
    >>> import matplotlib
    >>> from bnlib.plots import use_style
    >>> with matplotlib.rc_context():
    ...     use_style()
    ...     [float(side) for side in matplotlib.rcParams["figure.figsize"]]
    [6.0, 3.7]
    """
    matplotlib.style.use("bnlib.plots.bnlib")


def line_style(meaning: str) -> dict[str, Any]:
    """Return a copy of the line style of a meaning.

    Parameters
    ----------
    meaning : {"none", "batch", "layer", "group", "reference"}
        What the line stands for.

    Returns
    -------
    dict
        The keywords `color` and `linestyle`.

    Raises
    ------
    ValueError
        If the palette has no such meaning.
    """
    if meaning not in LINES:
        raise ValueError(f"meaning: expected one of {', '.join(LINES)}, got {meaning!r}")
    return dict(LINES[meaning])


def theme_css(selector: str = 'html[data-theme="dark"]') -> str:
    """Return the CSS rule that gives figures made by `show` their dark colours.

    Without the rule a figure keeps the light palette; text and axes follow the page's text colour
    in any case.

    Parameters
    ----------
    selector : str
        Where the dark theme holds; the default is that of the pydata and book themes of Sphinx.

    Returns
    -------
    str
        One CSS rule that sets `--bn-<meaning>` for every meaning, and `--bn-paper`.

    Examples
    --------
    >>> from bnlib.plots import theme_css
    >>> print(theme_css(".dark").splitlines()[1])
      --bn-none: #4DB2F0;
    """
    colors = {**DARK_COLORS, "paper": DARK_PAPER}
    lines = [f"  --bn-{meaning}: {color};" for meaning, color in colors.items()]
    return "\n".join([f"{selector} {{", *lines, "}"])
