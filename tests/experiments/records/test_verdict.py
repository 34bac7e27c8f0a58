from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from simulations import coverage, expected_share, power, share, simulate

from bnlib.experiments.records.verdict import (
    CONFIDENCE,
    Between,
    averaged,
    check_two_arms,
    overall,
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
    [
        (1.0, "supported"),
        (-1.0, "refuted"),
        (0.0, "no effect"),
        (0.1, "undecided"),
        (-0.1, "undecided"),
    ],
)
def test_answer_depends_on_where_the_interval_lies(center, answer):
    assert verdict([center - 0.01, center, center + 0.01]).answer == answer


def test_large_but_uncertain_effect_is_undecided():
    assert verdict([3.0, -1.0, 1.0]).answer == "undecided"


@pytest.mark.parametrize("difference", [0.0, 0.1, 1.0])
def test_difference_without_variance_cannot_be_told(difference):
    """Both arms the same array, or every network at chance: nothing could have shown an effect."""
    judged = verdict(np.full(12, difference))
    assert judged.answer == "cannot tell"
    assert judged.reason == "the difference is the same in all seeds"


def test_judge_may_say_that_an_experiment_has_no_power():
    arms = [1.0, 1.1, 0.9], [0.0, 0.1, 0.0]
    judged = paired_verdict("", "", *arms, 0.1, powerless="neither arm learns")
    assert (judged.answer, judged.reason) == ("cannot tell", "neither arm learns")
    assert judged.effect == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("treatment", "control", "margin", "message"),
    [
        ([1.0], [1.0], 0.1, "k >= 2"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], 0.1, "got 2 and 3"),
        ([1.0, np.nan], [1.0, 2.0], 0.1, "finite"),
        ([1.0, 2.0], [1.0, 2.0], -0.1, "margin"),
    ],
)
def test_impossible_input_is_refused(treatment, control, margin, message):
    with pytest.raises(ValueError, match=message):
        paired_verdict("A claim.", "A paper", treatment, control, margin)


# ------------------------------------------------- outcomes known within bounds

INF = np.inf


def test_exact_outcomes_are_bounds_that_coincide(rng):
    treatment, control = rng.normal(size=(2, 9))
    exact = paired_verdict("", "", treatment, control, 0.1)
    assert paired_verdict("", "", Between(treatment, treatment), control, 0.1) == exact


def test_interval_of_a_grid_is_as_wide_as_its_steps():
    """All seeds gain one step of 0.5: the gain is known to lie between 0 and 1, not to be 0.5."""
    one = Between(np.full(16, 0.0), np.full(16, 0.5))
    other = Between(np.full(16, -0.5), np.full(16, 0.0))
    judged = paired_verdict("", "", one, other, 0.4)
    assert (judged.effect, judged.low, judged.high) == (0.5, 0.0, 1.0)
    assert judged.answer == "undecided"


@pytest.mark.parametrize(
    ("treatment", "control", "bound", "effect", "answer"),
    [
        (Between([5, 6, 5], [INF] * 3), [1, 1, 2], "at least", 4.0, "supported"),
        ([1, 1, 2], Between([5, 6, 5], [INF] * 3), "at most", -4.0, "refuted"),
        (Between([-INF] * 3, [1, 2, 1]), [5, 5, 6], "at most", -4.0, "refuted"),
        (Between([1, 2, 1], [INF] * 3), [1, 1, 2], "at least", 0.0, "undecided"),
    ],
)
def test_outcome_beyond_what_was_tried_is_a_bound(treatment, control, bound, effect, answer):
    judged = paired_verdict("", "", treatment, control, 1.5)
    assert (judged.bound, judged.answer) == (bound, answer)
    assert judged.effect == pytest.approx(effect)


def test_arms_that_are_both_beyond_what_was_tried_cannot_be_told_apart():
    ceiling = Between([5.0] * 4, [INF] * 4)
    judged = paired_verdict("", "", ceiling, ceiling, 1.0)
    assert (judged.answer, judged.bound) == ("cannot tell", "")
    assert judged.reason == "the outcomes lie beyond what was tried"


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (Between([2.0, 1.0], [1.0, 2.0]), "treatment: expected lower bounds"),
        (Between([INF, 1.0], [INF, 2.0]), "treatment: expected finite values, got bounds inf, inf"),
        (Between([1.0], [1.0, 2.0]), r"\(1,\) and \(2,\)"),
        (Between([np.nan, 1.0], [1.0, 2.0]), "treatment: expected finite"),
    ],
)
def test_impossible_bounds_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        paired_verdict("", "", bounds, [0.0, 0.0], 0.1)


NAN = np.nan


@pytest.mark.parametrize(
    ("effect", "low", "high", "reason", "words"),
    [
        (15.0412, 14.85, 15.3, "", "15.04 (14.85 to 15.30)"),
        (7.2314, 6.6, 7.8, "", "7.2 (6.6 to 7.8)"),
        (123.4, 110.0, 135.0, "", "123 (110 to 135)"),
        (0.25, 0.25, 0.25, "no variance", "0.25 (0.25 to 0.25); no variance"),
        (0.67, 0.61, INF, "", "at least 0.670 (0.610)"),
        (-0.67, -INF, -0.61, "", "at most -0.670 (-0.610)"),
        (NAN, -0.5, 0.25, "", "between -0.50 and 0.25"),
        (NAN, -INF, INF, "both at an end", "both at an end"),
    ],
)
def test_numbers_have_two_digits_of_their_interval(effect, low, high, reason, words):
    one = replace(verdict([0.0, 0.01]), effect=effect, low=low, high=high, reason=reason)
    assert one.in_numbers() == words


# ------------------------------------------------- one answer for several cases


def cases(*answers):
    kinds = [(data, mode) for data in ("digits", "photos") for mode in ("train", "eval")]
    one = verdict([0.0, 0.01])
    return {c: replace(one, answer=a) for c, a in zip(kinds, answers, strict=True)}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["refuted"] * 4, "refuted"),
        (["supported", "refuted"] * 2, "it depends on the mode"),
        (["supported"] * 2 + ["no effect"] * 2, "it depends on the data set"),
        (["supported", "refuted", "supported", "undecided"], "it depends on the mode"),
        (
            ["supported", "refuted", "refuted", "no effect"],
            "it depends on the data set and the mode",
        ),
        (["supported", "undecided", "undecided", "no effect"],
         "it depends on the data set and the mode"),
        (["supported"] * 3 + ["undecided"], "supported: 3 of 4 cases, the others cannot be told"),
        (["supported"] + ["undecided"] * 3, "undecided"),
        (["supported"] + ["undecided"] + ["cannot tell"] * 2, "cannot tell"),
        (["cannot tell"] * 4, "cannot tell"),
        (["it depends on the rate"] * 4, "it depends on the rate"),
        (["supported", "it depends on the rate"] * 2, "it depends on the mode and the rate"),
        (["it depends on the rate and the mode", "supported"] * 2,
         "it depends on the mode and the rate"),
    ],
)  # fmt: skip
def test_overall_says_on_what_the_answer_depends(answers, expected):
    assert overall(cases(*answers), "the data set", "the mode") == expected


def test_a_factor_that_does_not_vary_is_not_named():
    one = verdict([1.0, 1.01])
    given = {
        ("6 layers", "SGD", "200"): one,
        ("6 layers", "Adam", "400"): replace(one, answer="refuted"),
    }
    answer = overall(given, "the depth", "the optimizer", "the steps")
    assert answer == "it depends on the optimizer and the steps"


def test_cases_without_factors_are_one_factor():
    one = verdict([1.0, 1.01])
    assert overall({"a": one, "b": one}) == "supported"
    assert overall({"a": one, "b": replace(one, answer="refuted")}) == "it depends on the case"


@pytest.mark.parametrize("given", [{}, {("a", "b"): None}])
def test_cases_that_do_not_fit_the_factors_are_refused(given):
    filled = dict.fromkeys(given, verdict([1.0, 1.01]))
    with pytest.raises(ValueError, match="verdicts: expected"):
        overall(filled, "the case")


def test_average_stands_where_its_parts_do_not_contradict_it():
    high, low = verdict([1.0, 1.01]), verdict([-1.0, -1.01])
    unsure, whole = verdict([1.0, -1.0]), verdict([0.4, 0.41])
    assert averaged(whole, {"a": high, "b": unsure}, "the rate") == whole
    split = averaged(whole, {"a": high, "b": low}, "the rate")
    assert split.answer == "it depends on the rate"
    assert np.isnan(split.effect)
    assert (split.low, split.high) == (low.low, high.high)


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
