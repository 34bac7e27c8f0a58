"""Display a figure in a chapter, with its alternative text, and keep it for the caption."""

from __future__ import annotations

import re
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from bnlib.plots.svg import to_svg

MIN_ALT_WORDS = 8
"""An alternative text of fewer words cannot say what is plotted and its trend."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, repr=False)
class ThemedFigure:
    """A rendered figure: inline SVG in HTML, its alternative text in plain text.

    Attributes
    ----------
    name : str
        The name under which `show` glues it.
    alt : str
        The alternative text.
    svg : str
        One `<svg>` element.
    """

    name: str
    alt: str
    svg: str

    def _repr_html_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<figure {self.name}: {self.alt}>"


def render(fig: Figure, name: str, alt: str) -> ThemedFigure:
    """Render a figure as SVG that follows the light or dark theme of its page, and close it.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        The figure. Black follows the text colour, palette colours follow the CSS variables
        `--bn-<meaning>`; all other colours stay as they are.
    name : str
        Unique in the book: lower-case words joined by hyphens, `fig-<chapter>-<what>`.
    alt : str
        What is plotted and its trend, in at least `MIN_ALT_WORDS` words.

    Returns
    -------
    ThemedFigure
        The rendered figure.

    Raises
    ------
    TypeError
        If `fig` is no matplotlib figure.
    ValueError
        If `name` cannot be part of an id, or `alt` says too little. The figure stays open.
    """
    if not isinstance(fig, Figure):
        raise TypeError(f"fig: expected a matplotlib Figure, got {type(fig).__name__}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: expected lower-case words joined by hyphens, got {name!r}")
    alt = " ".join(alt.split())
    if len(alt.split()) < MIN_ALT_WORDS:
        raise ValueError(
            f"alt: expected at least {MIN_ALT_WORDS} words that say what is plotted and its "
            f"trend, got {alt!r}"
        )
    figure = ThemedFigure(name, alt, to_svg(fig, name, alt))
    plt.close(fig)
    return figure


def show(fig: Figure, name: str, alt: str) -> None:
    """Render a figure, display it, and glue it under `name` for a `glue:figure` directive.

    Outside of IPython nothing is displayed; the figure is still checked, rendered and closed, so
    that a chapter run as a script meets the same errors.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        The figure; it is closed.
    name : str
        The name to glue under, unique in the book: `fig-<chapter>-<what>`.
    alt : str
        The alternative text: what is plotted and its trend.

    Raises
    ------
    TypeError, ValueError
        As `render`.
    """
    figure = render(fig, name, alt)
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return
    if get_ipython() is None:
        return
    try:
        from myst_nb import glue
    except ImportError:  # a notebook outside of the book
        pass
    else:
        glue(name, figure, display=False)
    display(figure)
