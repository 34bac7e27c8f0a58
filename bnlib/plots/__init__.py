"""The style of the book's figures and the figures themselves."""

from bnlib._extras import require

require("matplotlib", extra="book")

from bnlib.measure.interval import Interval, mean_interval
from bnlib.plots.backward import check_table, local_derivatives
from bnlib.plots.convolutions import Convolution, convolution_window
from bnlib.plots.descent import descent_path
from bnlib.plots.distributions import heat_map, layer_histograms, points
from bnlib.plots.forest import forest
from bnlib.plots.geometry import project, sphere_and_plane
from bnlib.plots.images import image_rows
from bnlib.plots.lines import band, label_ends, plot_bands
from bnlib.plots.schematics import (
    averaging_axes,
    batch_norm_graph,
    decision_tree,
    graph,
    network,
)
from bnlib.plots.show import ThemedFigure, render, show
from bnlib.plots.style import COLORS, DARK_COLORS, LINES, MARKERS, line_style, theme_css, use_style

__all__ = [
    "COLORS",
    "DARK_COLORS",
    "LINES",
    "MARKERS",
    "Convolution",
    "Interval",
    "ThemedFigure",
    "averaging_axes",
    "band",
    "batch_norm_graph",
    "check_table",
    "convolution_window",
    "decision_tree",
    "descent_path",
    "forest",
    "graph",
    "heat_map",
    "image_rows",
    "label_ends",
    "layer_histograms",
    "line_style",
    "local_derivatives",
    "mean_interval",
    "network",
    "plot_bands",
    "points",
    "project",
    "render",
    "show",
    "sphere_and_plane",
    "theme_css",
    "use_style",
]
