"""The explorables: their static figures, the stored bands, and what Jupyter shows of them."""

import json
import re
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bnlib.experiments import learning_rates

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import explorable_bands as bands  # noqa: E402
import explorable_figures  # noqa: E402
from jupyter_markdown import Book  # noqa: E402

STORE = json.loads(bands.TARGET.read_text("utf8"))
MODULES = ROOT / "book" / "_static" / "explorables"
ROUNDING = 0.02  # one rounding error decides the class of a few of the 397 test images
SMALL = {"depth": 3, "scale": 1.0, "batch": 32}


def stored(norm, setting):
    """Return the bands of a setting, (rates, 3, t): mean, lowest and highest seed."""
    found = [s for s in STORE["settings"] if setting.items() <= s.items()]
    assert len(found) == 1
    return np.array(found[0]["bands"][norm]) / 1000


@pytest.mark.parametrize("name", explorable_figures.FIGURES)
def test_each_explorable_has_a_module_and_a_figure_that_follows_the_theme(name):
    assert "export" in (MODULES / f"{name}.mjs").read_text("utf8")
    svg = explorable_figures.svg(name)
    assert "var(--bn-batch" in svg
    assert len(re.search(r'aria-label="([^"]+)"', svg)[1].split()) > 12


def test_the_figure_of_the_backward_pass_has_the_numbers_of_the_chapter():
    assert "2, −1.33, −1.33, 0.67" in explorable_figures.svg("backward_pass")


def test_the_figure_of_inference_has_the_numbers_of_the_chapter():
    svg = explorable_figures.svg("inference")
    assert "1, 2, 6 at 0.00 and with the companions 4, 5, 8 at -1.07" in svg


def test_every_choice_of_the_reader_has_a_band():
    values = [sorted({s[name] for s in STORE["settings"]}) for name in SMALL]
    assert [len(v) for v in values] == [3, 3, 2]
    for depth, scale, batch in product(*values):
        for norm in bands.NORMS:
            rows = stored(norm, {"depth": depth, "scale": scale, "batch": batch})
            assert rows.shape == (len(STORE["rates"]), 3, len(STORE["steps"]))
            mean, low, high = np.moveaxis(rows, 1, 0)
            assert ((low <= mean) & (mean <= high)).all()
    assert all(s["made"]["versions"]["numpy"] for s in STORE["settings"])


def test_bands_are_those_of_the_experiment_of_the_chapter():
    rates = 0.1, 1.0
    config = learning_rates.Config(depth=3, rates=rates, budgets=(200,))
    accuracy = learning_rates.run(config).after(200)[:, 0]  # (norms, rates, seeds)
    rows = [STORE["rates"].index(rate) for rate in rates]
    for norm, runs in zip(config.norms, accuracy, strict=True):
        end = stored(norm, SMALL)[rows, :, -1]  # (rates, 3)
        assert_allclose(end[:, 0], runs.mean(axis=1), atol=ROUNDING)


def test_bands_can_be_computed_again():
    again = np.array(bands.band(bands.curves("batch", **SMALL, rates=(0.1,)))) / 1000
    row = stored("batch", SMALL)[STORE["rates"].index(0.1)]
    assert_allclose(again[0], row, atol=2 * ROUNDING)


def test_a_band_is_mean_lowest_and_highest():
    accuracy = np.array([[[0.25, 1.0], [0.75, 0.5]]])  # one rate, two seeds, two steps
    assert bands.band(accuracy) == [[[500, 750], [250, 500], [750, 1000]]]


def test_bn_is_ahead_after_50_steps_at_the_start():
    none, bn = (stored(norm, explorable_figures.TRAINING) for norm in bands.NORMS)
    row = STORE["rates"].index(0.1)
    for step in (40, 60):
        column = STORE["steps"].index(step)
        assert bn[row, 1, column] > none[row, 0, column]  # the worst seed, and the mean


def test_there_is_a_rate_at_which_only_bn_trains():
    none, bn = (stored(norm, explorable_figures.TRAINING)[:, 0, -1] for norm in bands.NORMS)
    assert ((bn > learning_rates.TRAINED) & (none < learning_rates.TRAINED)).any()


def test_the_digits_are_small_and_whole():
    data = explorable_figures.digits()
    assert len(data) == 1797 * 65
    assert max(data[: 1797 * 64]) == 16
    assert set(data[1797 * 64 :]) == set(range(10))


@pytest.mark.parametrize("form", ["plain", "myst"])
def test_jupyter_shows_the_figure_with_its_caption(form):
    text = "```{explorable} inference\nWhat it shows, with $x = 3$.\n```"
    made = Book(ROOT).to_jupyter(text, "inference", form)
    assert re.fullmatch(
        r'<img alt="[^"]+" src="data:image/svg\+xml;base64,[\w+/=]+">\n\nWhat it shows, .*', made
    )


def test_the_other_figures_have_the_numbers_of_their_chapters():
    assert "the 60 values of channel 1" in explorable_figures.svg("alternatives")
    circles = explorable_figures.svg("forward_pass")
    assert "of radius 1.73" in circles
    assert "of radius 1.22" in circles  # half of the square is left
    deep = explorable_figures.svg("depth_and_signal_propagation")
    decades = [float(v) for v in re.findall(r"(-?[\d.]+) decades", deep)]
    half, he, bn_half, bn_he = decades
    assert half < -10
    assert abs(he) < 1
    assert bn_half == pytest.approx(bn_he, abs=0.11)
    assert 3.5 < bn_he < 5  # the theory says 4.2
