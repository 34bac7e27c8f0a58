import numpy as np
import pytest
from scipy import stats
from simulations import coverage, expected_share, power, share, simulate

from bnlib.experiments.records.verdict import (
    CONFIDENCE,
    check_two_arms,
    common_answer,
    paired_verdict,
)


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


@pytest.mark.parametrize(
    ("effects", "expected"),
    [([1, 1], "supported"), ([0, 0, 0], "no effect"), ([1, 0], "mixed"), ([-1], "refuted")],
)
def test_common_answer(effects, expected):
    noise = np.array([0.01, -0.01])
    verdicts = (paired_verdict("", "", effect + noise, [0, 0], 0.5) for effect in effects)
    assert common_answer(verdicts) == expected


@pytest.mark.parametrize("arms", [("none",), ("none", "batch", "layer"), ()])
def test_other_than_two_arms_are_refused(arms):
    check_two_arms(("none", "batch"))
    with pytest.raises(ValueError, match="noise: expected two arms, the control first, got"):
        check_two_arms(arms, "noise")


# ------------------------------------------------- experiments whose true effect is known

MISSED = (1 - CONFIDENCE) / 2  # what an interval may miss on either side


@pytest.mark.parametrize("seeds", [4, 16])
def test_interval_contains_the_true_effect_as_often_as_it_promises(seeds):
    low, high = expected_share(CONFIDENCE)
    assert low <= coverage(simulate("normal", seeds, 0.5, 0.5), 0.5) <= high


def test_interval_of_skewed_arms_contains_the_true_effect_as_often_as_it_promises():
    """The difference of two arms that are skewed alike is symmetric."""
    low, _ = expected_share(CONFIDENCE)
    assert coverage(simulate("exponential arms", 16, 0.5, 0.5), 0.5) >= low


def test_interval_of_a_skewed_difference_promises_too_much():
    """So say the notes of `paired_verdict`; the interval may then miss on one side alone."""
    verdicts = simulate("exponential difference", 16, 0.0, 0.0)
    assert coverage(verdicts, 0.0) == pytest.approx(0.91, abs=0.015)
    assert share(verdicts, "refuted") > 5 * share(verdicts, "supported")


@pytest.mark.parametrize(
    ("effect", "margin", "wrong"),
    [
        (0.0, 0.0, ("supported",)),
        (0.0, 0.0, ("refuted",)),
        (0.5, 0.5, ("supported",)),
        (0.5, 0.5, ("no effect",)),
        (0.5, 0.5, ("refuted",)),
        (-0.5, 0.5, ("refuted",)),
    ],
)
@pytest.mark.parametrize("noise", ["normal", "exponential arms"])
def test_wrong_answers_are_as_rare_as_the_interval_promises(noise, effect, margin, wrong):
    _, high = expected_share(MISSED)
    assert share(simulate(noise, 16, effect, margin), *wrong) <= high


def test_power_is_that_of_the_t_test_and_rises_with_the_effect():
    n, shares = 1000, []
    for effect in (0.5, 0.75, 1.0, 1.5):
        low, high = expected_share(power(effect, 0.5, 16), n)
        shares.append(share(simulate("normal", 16, effect, 0.5, n), "supported"))
        assert low <= shares[-1] <= high
    assert shares == sorted(shares)
    assert shares[-1] > 0.9


def test_swapped_arms_change_the_sign_and_the_answer(rng):
    opposite = {"supported": "refuted", "refuted": "supported"}
    for treatment, control in rng.normal(size=(200, 2, 4)):
        one = paired_verdict("", "", treatment, control, 0.1)
        other = paired_verdict("", "", control, treatment, 0.1)
        assert (other.effect, other.low, other.high) == (-one.effect, -one.high, -one.low)
        assert other.answer == opposite.get(one.answer, one.answer)
