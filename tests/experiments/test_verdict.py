import numpy as np
import pytest
from scipy import stats

from bnlib.experiments.verdict import paired_verdict


def verdict(difference, margin=0.1):
    return paired_verdict("A claim.", "A paper", difference, np.zeros(len(difference)), margin)


def test_interval_equals_the_paired_interval_of_scipy(rng):
    treatment, control = rng.normal(size=(2, 9))
    ours = paired_verdict("A claim.", "A paper", treatment, control, 0.1)
    theirs = stats.ttest_rel(treatment, control).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.effect == pytest.approx((treatment - control).mean())


@pytest.mark.parametrize(
    ("center", "answer"),
    [(1.0, "supported"), (-1.0, "refuted"), (0.0, "no effect"), (0.1, "mixed"), (-0.1, "mixed")],
)
def test_answer_depends_on_where_the_interval_lies(center, answer):
    assert verdict([center - 0.01, center, center + 0.01]).answer == answer


def test_large_but_uncertain_effect_is_mixed():
    assert verdict([3.0, -1.0, 1.0]).answer == "mixed"


def test_equal_arms_have_no_effect():
    assert verdict(np.zeros(4), margin=0.0).answer == "no effect"


@pytest.mark.parametrize(
    ("treatment", "control", "margin", "message"),
    [
        ([1.0], [1.0], 0.1, "k >= 2"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], 0.1, r"\(2,\) and \(3,\)"),
        ([1.0, np.nan], [1.0, 2.0], 0.1, "finite"),
        ([1.0, 2.0], [1.0, 2.0], -0.1, "margin"),
    ],
)
def test_impossible_input_is_refused(treatment, control, margin, message):
    with pytest.raises(ValueError, match=message):
        paired_verdict("A claim.", "A paper", treatment, control, margin)
