from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from bnlib import plots


@pytest.fixture
def ax():
    return plt.subplots()[1]


@pytest.fixture
def samples():
    return np.random.default_rng(0).normal(size=(6, 9))


def boxes(labels):
    labels[0].figure.draw_without_rendering()
    return [label.get_window_extent() for label in labels]


def test_interval_equals_the_t_interval_of_scipy(samples):
    mean, low, high = plots.mean_interval(samples)
    expected = stats.t.interval(
        0.95, df=len(samples) - 1, loc=samples.mean(axis=0), scale=stats.sem(samples, axis=0)
    )
    np.testing.assert_allclose([low, high], expected, atol=1e-12)
    np.testing.assert_allclose(mean, samples.mean(axis=0))


def test_band_draws_the_mean_and_the_interval(ax, samples):
    x = np.arange(9.0)
    line = plots.band(ax, x, samples, "batch", "batch norm")
    np.testing.assert_allclose(line.get_ydata(), samples.mean(axis=0))
    assert (line.get_label(), line.get_color()) == ("batch norm", plots.COLORS["batch"])
    _, low, high = plots.mean_interval(samples)
    (area,) = ax.collections
    vertices = area.get_paths()[0].vertices
    for position, bottom, top in zip(x, low, high, strict=True):
        heights = vertices[vertices[:, 0] == position, 1]
        np.testing.assert_allclose([heights.min(), heights.max()], [bottom, top])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.ones((1, 9)), "at least 2 seeds on axis 0, got \\(1, 9\\)"),
        (np.full((3, 9), np.nan), "finite"),
        (np.ones((3, 8)), "shape \\(k, t\\).*got \\(3, 8\\)"),
        (np.ones(9), "got \\(9,\\)"),
    ],
)
def test_band_refuses_bad_samples(ax, samples, message):
    with pytest.raises(ValueError, match=message):
        plots.band(ax, np.arange(9), samples, "batch")
    assert not ax.lines
    assert not ax.collections


@pytest.mark.parametrize("ends", [[1.0, 1.0, 1.0, 1.0], [0.0, 0.01, 0.02, 5.0], [5, 4.99, 0, 2.5]])
@pytest.mark.parametrize("scale", ["linear", "symlog"])
def test_labels_do_not_overlap_and_stay_inside(ax, ends, scale):
    for i, end in enumerate(ends):
        ax.plot([0, 1], [2, end], label=f"line {i}")
    ax.set_yscale(scale)
    labels = plots.label_ends(ax)
    found = boxes(labels)
    assert len(found) == 4
    for one, other in combinations(found, 2):
        assert not one.overlaps(other)
    figure = ax.figure.bbox
    for box in found:
        assert figure.x0 <= box.x0
        assert box.x1 <= figure.x1
        centre = (box.y0 + box.y1) / 2
        assert ax.bbox.y0 - 1 <= centre <= ax.bbox.y1 + 1


def test_labels_keep_the_order_and_the_color_of_their_lines(ax):
    lines = [ax.plot([0, 1], [0, y], label=f"to {y}")[0] for y in (0.50, 0.52, 0.51)]
    labels = plots.label_ends(ax)
    assert [label.get_text() for label in labels] == ["to 0.5", "to 0.52", "to 0.51"]
    assert [label.get_color() for label in labels] == [line.get_color() for line in lines]
    heights = [box.y0 for box in boxes(labels)]
    assert heights[0] < heights[2] < heights[1]


def test_label_with_room_stays_at_the_end_of_its_line(ax):
    ax.plot([0, 1, 2], [0, 1, np.nan], label="a")
    ax.plot([0, 2], [0, 0], label="b")
    ax.plot([0, 2], [0, 0.5])
    a, b = boxes(plots.label_ends(ax))
    for box, end in ((a, (1, 1)), (b, (2, 0))):
        x, y = ax.transData.transform(end)
        assert 0 < box.x0 - x < 12
        assert abs((box.y0 + box.y1) / 2 - y) < 2


def test_aligned_labels_start_at_the_right_edge(ax):
    ax.plot([0, 1], [0, 1], label="a")
    ax.plot([0, 2], [0, 0], label="b")
    a, b = boxes(plots.label_ends(ax, align=True))
    assert a.x0 == b.x0 > ax.bbox.x1


def test_label_ends_refuses_nothing_to_label(ax):
    with pytest.raises(ValueError, match="lines: expected at least one line"):
        plots.label_ends(ax)
    ax.plot([0, 1], [np.nan, np.inf], label="gone")
    with pytest.raises(ValueError, match="finite points in 'gone'"):
        plots.label_ends(ax)


def test_plot_bands_labels_every_meaning(ax, samples):
    names = {"none": "no normalization", "batch": "batch norm"}
    lines = plots.plot_bands(ax, np.arange(9), {"none": samples, "batch": samples + 1}, names)
    assert [line.get_label() for line in lines] == list(names.values())
    assert [text.get_text() for text in ax.texts] == list(names.values())
