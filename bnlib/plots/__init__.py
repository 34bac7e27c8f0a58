"""The style of the book's figures and the figures themselves."""

from bnlib.plots.lines import Interval, band, label_ends, mean_interval, plot_bands
from bnlib.plots.show import ThemedFigure, render, show
from bnlib.plots.style import COLORS, DARK_COLORS, LINES, MARKERS, line_style, theme_css, use_style

__all__ = [
    "COLORS",
    "DARK_COLORS",
    "LINES",
    "MARKERS",
    "Interval",
    "ThemedFigure",
    "band",
    "label_ends",
    "line_style",
    "mean_interval",
    "plot_bands",
    "render",
    "show",
    "theme_css",
    "use_style",
]
