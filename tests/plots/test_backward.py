import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.patches import FancyArrowPatch, Rectangle

from bnlib import plots


@pytest.fixture
def ax():
    return plt.subplots()[1]


def test_every_arrow_has_its_local_derivative(ax):
    boxes, labels = plots.local_derivatives(ax)
    key = {box: name for name, box in boxes.items()}
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert set(labels) == {(key[a.patchB], key[a.patchA]) for a in arrows}  # arrows run backward
    assert labels["x_hat", "y"].get_text() == r"$\gamma$"
    assert labels["gamma", "y"].get_text() == r"$\hat{x}$"


def test_local_derivatives_cover_neither_boxes_nor_each_other(ax):
    boxes, labels = plots.local_derivatives(ax)
    ax.figure.draw_without_rendering()
    texts = [label.get_window_extent() for label in labels.values()]
    for i, text in enumerate(texts):
        assert not any(text.overlaps(box.get_window_extent()) for box in boxes.values())
        assert not any(text.overlaps(other) for other in texts[:i])


def test_faults_that_are_missed_are_filled(ax):
    caught = np.array([[True, False, False], [False, True, True]])
    words = plots.check_table(ax, caught, ["a", "b"], ["x", "y", "z"])
    cells = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    filled = [same_color(cell.get_facecolor(), plots.COLORS["reference"]) for cell in cells]
    assert filled == (~caught).ravel().tolist()
    written = np.vectorize(lambda text: text.get_text())(np.array(words, dtype=object))
    assert written.tolist() == [["caught", "missed", "missed"], ["missed", "caught", "caught"]]
    assert [text.get_position() for text in words[1]] == [(0.5, 1.5), (1.5, 1.5), (2.5, 1.5)]
    assert ax.yaxis_inverted()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]


def test_table_of_checks_refuses_names_that_do_not_fit(ax):
    with pytest.raises(ValueError, match=r"caught: expected shape \(1, 2\), got \(2, 2\)"):
        plots.check_table(ax, np.eye(2, dtype=bool), ["a"], ["x", "y"])


def test_table_of_checks_refuses_numbers(ax):
    with pytest.raises(TypeError, match="caught: expected booleans, got float64"):
        plots.check_table(ax, np.eye(2), ["a", "b"], ["x", "y"])
