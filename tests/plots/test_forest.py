import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlib import plots
from bnlib.experiments.records.verdict import Between, paired_verdict

EXACT = paired_verdict("", "", [1.0, 1.1, 1.2], [0.0, 0.0, 0.0], 0.5)
BOUND = paired_verdict("", "", Between([5, 6, 5], [np.inf] * 3), [4, 5, 5], 2)
UNKNOWN = paired_verdict("", "", *[Between([5.0] * 3, [np.inf] * 3)] * 2, 1.0)


@pytest.fixture
def ax():
    return plt.subplots()[1]


def drawn(ax, marker):
    """Return the points that were drawn with a marker, (x, y)."""
    return [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == marker]


def test_rows_show_effect_interval_margin_and_answer(ax):
    answers = plots.forest(ax, {"one": EXACT, "other": BOUND})
    assert [text.get_text() for text in answers] == ["supported", "undecided"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "other"]
    assert ax.get_ylim() == (1.5, -0.5)  # the first row is at the top
    margins = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    assert margins == [(-0.5, 0.5), (-2, 2)]
    assert drawn(ax, "o") == [(EXACT.effect, 0), (BOUND.effect, 1)]
    interval = next(line for line in ax.lines if [*line.get_ydata()] == [0, 0])
    assert tuple(interval.get_xdata()) == (EXACT.low, EXACT.high)


def test_an_interval_without_an_end_is_an_arrow(ax):
    plots.forest(ax, {"a bound": BOUND})
    assert drawn(ax, ">") == [(ax.get_xlim()[1], 0)]
    assert not drawn(ax, "<")


def test_of_what_is_not_known_the_answer_alone_is_shown(ax):
    (answer,) = plots.forest(ax, {"no bound": UNKNOWN})
    assert answer.get_text() == "cannot tell"
    assert len(ax.lines) == 1  # that of 0
    assert np.isfinite(ax.get_xlim()).all()


def test_no_verdict_is_refused(ax):
    with pytest.raises(ValueError, match="verdicts: expected at least one"):
        plots.forest(ax, {})
