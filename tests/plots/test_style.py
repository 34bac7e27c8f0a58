import re
import subprocess
import sys
from itertools import combinations

import matplotlib
import numpy as np
import pytest

from bnlib.plots import style

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision
# deficiency", IEEE TVCG 15 (6), 2009: severity 1.0, applied to linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
BLOCK_TORCH = """
import sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch is blocked in this test", name=name)


sys.meta_path.insert(0, NoTorch())
"""  # SciPy trips over `sys.modules["torch"] = None`

JUST_NOTICEABLE = 2.3  # CIE76 distance (Mahy, Van Eycken and Oosterlinck 1994)
PALETTES = {
    "light": (style.COLORS, style.PAPER),
    "dark": (style.DARK_COLORS, style.DARK_PAPER),
}


def linear_rgb(color):
    rgb = np.array(matplotlib.colors.to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(color, other):
    """Return the contrast ratio of WCAG 2."""
    luminance = sorted(linear_rgb(c) @ [0.2126, 0.7152, 0.0722] for c in (color, other))
    return (luminance[1] + 0.05) / (luminance[0] + 0.05)


def cielab(rgb):
    to_xyz = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.0888]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_contrast_of_black_and_white_is_21():
    np.testing.assert_allclose(contrast("#000000", "#FFFFFF"), 21.0)


@pytest.mark.parametrize("theme", PALETTES)
def test_contrast_with_the_page_is_at_least_5(theme):
    colors, paper = PALETTES[theme]
    for meaning, color in colors.items():
        assert contrast(color, paper) >= 5, meaning


@pytest.mark.parametrize("theme", PALETTES)
@pytest.mark.parametrize("vision", VISION)
def test_colors_are_distinct_for_all_eyes(theme, vision):
    lab = {
        meaning: cielab(np.array(VISION[vision]) @ linear_rgb(color))
        for meaning, color in PALETTES[theme][0].items()
    }
    for one, other in combinations(lab, 2):
        assert np.linalg.norm(lab[one] - lab[other]) > 3 * JUST_NOTICEABLE, (one, other)


def test_no_line_style_and_no_marker_is_used_twice():
    styles = [str(line["linestyle"]) for line in style.LINES.values()]
    assert len(set(styles)) == len(styles)
    assert len(set(style.MARKERS.values())) == len(style.MARKERS)


def test_all_palettes_have_the_same_meanings():
    assert list(style.COLORS) == list(style.DARK_COLORS) == list(style.LINES)
    assert list(style.COLORS) == list(style.MARKERS)
    assert all(line["color"] == style.COLORS[key] for key, line in style.LINES.items())


def test_cycle_of_the_style_sheet_is_the_palette():
    cycle = list(matplotlib.rcParams["axes.prop_cycle"])
    for entry, (meaning, line) in zip(cycle, style.LINES.items(), strict=False):
        assert matplotlib.colors.same_color(entry["color"], line["color"]), meaning
        assert entry["linestyle"] == line["linestyle"], meaning
    assert len(cycle) == 4


def test_style_of_the_figures():
    params = matplotlib.rcParams
    assert params["figure.figsize"] == [6.0, 3.7]
    assert not params["axes.spines.top"]
    assert not params["axes.spines.right"]
    assert min(params["font.size"], params["xtick.labelsize"], params["ytick.labelsize"]) >= 8


def test_line_style_is_a_copy():
    style.line_style("batch")["color"] = "red"
    assert style.LINES["batch"]["color"] == style.COLORS["batch"]


def test_unknown_meaning_is_refused():
    with pytest.raises(ValueError, match=r"meaning: expected one of none, batch, .* got 'bath'"):
        style.line_style("bath")


def test_theme_css_sets_every_variable():
    found = dict(re.findall(r"--bn-(\w+): (#\w+);", style.theme_css()))
    assert found == {**style.DARK_COLORS, "paper": style.DARK_PAPER}


def test_plots_work_without_torch():
    code = (
        f"{BLOCK_TORCH}\n"
        "import matplotlib; matplotlib.use('Agg')\n"
        "import bnlib.plots as plots, matplotlib.pyplot as plt\n"
        "plots.use_style(); fig, ax = plt.subplots(); ax.plot([1, 2], label='a')\n"
        "plots.label_ends(ax); plots.show(fig, 'fig-a', 'one two three four five six seven eight')"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
