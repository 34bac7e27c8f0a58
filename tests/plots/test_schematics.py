import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.patches import FancyArrowPatch

from bnlib import plots

# faces in colour at the front, on top and on the right of a block of 4 examples, 6 channels and
# 4 pixels, counted by hand
FACES = {
    "batch": 4 + 4 + 16,
    "ghost": 4 + 2 + 8,
    "layer": 24 + 6 + 4,
    "instance": 4 + 1 + 4,
    "group": 12 + 3 + 4,
    "none": 0,
}
MEANINGS = {"instance": "group", "ghost": "batch"}


@pytest.fixture
def ax():
    return plt.subplots()[1]


@pytest.mark.parametrize("norm", FACES)
def test_values_that_share_a_mean_are_in_color(ax, norm):
    cells = plots.averaging_axes(ax, norm)
    color = plots.COLORS[MEANINGS.get(norm, norm)]
    filled = [same_color(face, color) for face in cells.get_facecolors()]
    assert len(filled) == 4 * 6 + 4 * 6 + 4 * 4
    assert sum(filled) == FACES[norm]


def test_unknown_norm_is_refused(ax):
    with pytest.raises(ValueError, match=r"norm: expected one of batch, ghost, .* got 'rms'"):
        plots.averaging_axes(ax, "rms")


def test_graph_has_a_box_a_node_and_an_arrow_an_edge(ax):
    boxes = plots.graph(ax, {"a": (0, 0, "$a$"), "b": (2, 1, "$b$")}, [("a", "b")])
    (arrow,) = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert list(boxes) == ["a", "b"]
    assert (arrow.patchA, arrow.patchB) == (boxes["a"], boxes["b"])
    assert [text.get_text() for text in ax.texts] == ["$a$", "$b$"]


def test_unknown_node_is_refused(ax):
    with pytest.raises(ValueError, match=r"expected keys of nodes, got \['c'\]"):
        plots.graph(ax, {"a": (0, 0, "$a$")}, [("a", "c")])


def arrows(ax, boxes):
    key = {box: name for name, box in boxes.items()}
    found = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    return {(key[arrow.patchA], key[arrow.patchB]) for arrow in found}


def test_gradients_flow_backward_along_every_edge(ax):
    forward = arrows(ax, plots.batch_norm_graph(ax))
    other = plt.subplots()[1]
    backward = arrows(other, plots.batch_norm_graph(other, backward=True))
    assert {("x", "mean"), ("x", "centered"), ("var", "inv_std"), ("x_hat", "y")} < forward
    assert backward == {(end, start) for start, end in forward}


@pytest.mark.parametrize("backward", [True, False])
def test_texts_of_the_graph_fit_into_their_boxes(ax, backward):
    boxes = plots.batch_norm_graph(ax, backward=backward)
    ax.figure.draw_without_rendering()
    for text, box in zip(ax.texts, boxes.values(), strict=True):
        inner, outer = text.get_window_extent(), box.get_window_extent()
        assert outer.x0 < inner.x0
        assert inner.x1 < outer.x1
        assert outer.y0 < inner.y0
        assert inner.y1 < outer.y1


def test_boxes_do_not_overlap(ax):
    extents = [box.get_window_extent() for box in plots.batch_norm_graph(ax).values()]
    ax.figure.draw_without_rendering()
    for i, box in enumerate(extents):
        assert not any(box.overlaps(other) for other in extents[:i])
    assert np.ptp([box.x0 for box in extents]) > 100


SMALL = {"names": ("$x$", "$h$", "$z$"), "weights": ("$W_1$", "$W_2$")}


def test_network_has_a_circle_per_unit_and_a_line_per_weight(ax):
    circles = plots.network(ax, (4, 3, 2), **SMALL)
    assert [len(column) for column in circles] == [4, 3, 2]
    assert len(ax.get_lines()) == 4 * 3 + 3 * 2
    texts = {text.get_text() for text in ax.texts}
    assert texts == {"$x$", "$h$", "$z$", "$W_1$", "$W_2$"}


def test_network_highlights_the_incoming_weights_of_a_unit(ax):
    circles = plots.network(ax, (4, 3, 2), **SMALL, highlight=(1, 2))
    color = plots.COLORS["none"]
    marked = [line for line in ax.get_lines() if same_color(line.get_color(), color)]
    assert {(line.get_xdata()[1], line.get_ydata()[1]) for line in marked} == {
        circles[1][2].get_center()
    }
    assert len(marked) == 4
    assert same_color(circles[1][2].get_edgecolor(), color)
    assert not same_color(circles[1][1].get_edgecolor(), color)


def test_circles_of_a_network_do_not_overlap(ax):
    (column, *_) = plots.network(ax, (4, 3, 2), **SMALL)
    gaps = -np.diff([circle.get_center()[1] for circle in column])
    assert (gaps > 2 * column[0].get_radius()).all()


@pytest.mark.parametrize(
    ("units", "texts", "message"),
    [
        ((4,), {"names": ("a",), "weights": ()}, "units: expected two or more"),
        ((4, 0), {"names": ("a", "b"), "weights": ("c",)}, "units: expected two or more"),
        ((4, 2), SMALL, "expected 2 and 1 texts, got 3 and 2"),
        ((4, 3, 2), {**SMALL, "highlight": (0, 1)}, "a unit that has weights"),
        ((4, 3, 2), {**SMALL, "highlight": (2, 2)}, "a unit that has weights"),
    ],
)
def test_impossible_network_is_refused(ax, units, texts, message):
    with pytest.raises(ValueError, match=message):
        plots.network(ax, units, **texts)


STEPS = [("Is it red?", "yes", "an apple"), ("Is it long?", "no", "a lemon")]


def test_decision_tree_has_each_question_with_its_cause(ax):
    boxes = plots.decision_tree(ax, STEPS, last="a banana", answers=("yes", "no"))
    words = [text.get_text() for text in ax.texts]
    assert len(boxes) == 5
    assert sorted(words) == sorted(
        ["Is it red?", "an apple", "yes", "no", "Is it long?", "a lemon", "no", "yes", "a banana"]
    )
    position = {text.get_text(): text.get_position() for text in ax.texts}
    assert position["an apple"][1] == position["Is it red?"][1] > position["a lemon"][1]
    assert position["an apple"][0] > position["Is it red?"][0] == position["a banana"][0]


def test_texts_of_a_decision_tree_lie_in_their_boxes(ax):
    boxes = plots.decision_tree(ax, STEPS, last="a banana", answers=("yes", "no"))
    ax.figure.canvas.draw()
    held = {"Is it red?": 0, "an apple": 1, "Is it long?": 2, "a lemon": 3, "a banana": 4}
    for text in ax.texts:
        if text.get_text() in held:
            inner, outer = text.get_window_extent(), boxes[held[text.get_text()]].get_extents()
            assert outer.x0 < inner.x0 < inner.x1 < outer.x1
            assert outer.y0 < inner.y0 < inner.y1 < outer.y1


def test_unknown_answer_of_a_decision_tree_is_refused(ax):
    with pytest.raises(ValueError, match=r"expected the answers yes or no, got 'perhaps'"):
        plots.decision_tree(ax, [("?", "perhaps", "!")], last="", answers=("yes", "no"))
