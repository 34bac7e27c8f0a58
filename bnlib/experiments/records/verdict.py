"""What an experiment answers to a claim: a paired difference, its interval, and one word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnlib.measure.interval import CONFIDENCE as CONFIDENCE
from bnlib.measure.interval import mean_interval

Answer = Literal["supported", "refuted", "no effect", "undecided", "cannot tell"]

DECIDED = ("supported", "refuted", "no effect")
"""The answers that more seeds would not change."""

DEPENDS = "it depends on"
"""How the answer to a claim begins whose cases have different answers."""


class Between(NamedTuple):
    """Outcomes of which only bounds are known: that of seed i is at least low[i], at most high[i].

    The largest learning rate that trains lies between a rate of the grid and the next one; a
    number of steps that was not reached lies above the budget, below infinity.
    """

    low: ArrayLike
    high: ArrayLike

    def at(self, *index: int) -> Between:
        """Take the entries at an index of the leading axes, of both bounds."""
        return Between(np.asarray(self.low)[index], np.asarray(self.high)[index])


@dataclass(frozen=True)
class Verdict:
    """The answer to a claim, with the numbers that it follows from.

    Positive always means: more of what the claim promises.

    Attributes
    ----------
    claim, source : str
        One sentence, and who says so.
    effect, low, high : float
        Mean over seeds of the paired difference, and the ends of its 95 % t-interval. Where an
        outcome is known within bounds only, the interval contains what all values between them
        would give, and the effect is the middle of the means that are possible. If one of these is
        infinite, the effect is the other, a bound; if both are, it is NaN.
    margin : float
        Smallest effect that counts, fixed before the experiment.
    answer : {"supported", "refuted", "no effect", "undecided", "cannot tell"}
        Where the interval lies: above `margin`, below -`margin`, inside both, or (undecided)
        across one of them, so that more seeds might tell. "cannot tell" if the experiment had no
        power, and `reason` says why. Of an average, also "it depends on ..." (`averaged`).
    seeds : int
        How many pairs the effect is the mean of.
    reason : str
        Why the experiment cannot tell; else empty.
    """

    claim: str
    source: str
    effect: float
    low: float
    high: float
    margin: float
    answer: Answer | str
    seeds: int
    reason: str = ""

    @property
    def bound(self) -> str:
        """Whether the effect is a bound only: "at least", "at most", or empty."""
        if np.isnan(self.effect):
            return ""
        return "at least" if np.isposinf(self.high) else "at most" if np.isneginf(self.low) else ""

    def in_numbers(self, factor: float = 1, unit: str = "") -> str:
        """Write the effect and its interval, to two digits of the width of the interval.

        Parameters
        ----------
        factor : float
            On all numbers.
        unit : str
            Behind the effect.

        Returns
        -------
        str

        Examples
        --------
        >>> from bnlib.experiments.records.verdict import paired_verdict
        >>> paired_verdict("More.", "", [0.9, 0.8, 0.9], [0.2, 0.1, 0.3], margin=0.1).in_numbers()
        '0.67 (0.52 to 0.81)'
        """
        known = [x for x in (self.low, self.high, self.effect) if np.isfinite(x)]
        if not known:
            return self.reason or "no bound is known"
        width = factor * (max(known) - min(known))
        digits = max(0, 1 - int(np.floor(np.log10(width)))) if width else None
        effect, low, high = (
            f"{factor * x:g}" if digits is None else f"{factor * x:z.{digits}f}"
            for x in (self.effect, self.low, self.high)
        )
        if np.isnan(self.effect):
            return f"between {low} and {high}{unit}"
        if self.bound:
            end = low if self.bound == "at least" else high
            return f"{self.bound} {effect}{unit} ({end})"
        return f"{effect}{unit} ({low} to {high})" + (f"; {self.reason}" if self.reason else "")


def paired_verdict(
    claim: str,
    source: str,
    treatment: ArrayLike | Between,
    control: ArrayLike | Between,
    margin: float,
    *,
    powerless: str = "",
) -> Verdict:
    """Judge a claim of the form "the treatment has more of it than the control".

    Parameters
    ----------
    claim, source : str
        For the verdict.
    treatment, control : array_like of shape (k,), or Between
        One number a seed; entry i of both comes from seed i.
    margin : float
        Smallest effect that counts, at least 0.
    powerless : str
        Why the experiment could not have shown an effect, if there is a reason: "neither arm
        learns". The answer is then "cannot tell". Two reasons are found here: the difference is the
        same in all seeds, or the outcomes lie beyond what was tried.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        The shapes are not one (k,) with k >= 2, a value is not finite (a bound may be infinite),
        bounds are in the wrong order, or the margin is negative.

    Notes
    -----
    The interval contains the true effect in 95 % of all experiments if the differences are normal,
    and at least about as often if they are symmetric, as the differences of two equally skewed
    arms are. Skewed differences make it miss more often, and on one side: at 16 seeds it contains
    the mean of exponentially distributed differences in 91 %.

    Bounds are those of :cite:t:`manski1990nonparametric`: without an assumption about where between
    them an outcome lies.

    Examples
    --------
    >>> from bnlib.experiments.records.verdict import Between, paired_verdict
    >>> paired_verdict("More.", "", [0.9, 0.8, 0.9], [0.2, 0.1, 0.3], margin=0.1).answer
    'supported'
    >>> verdict = paired_verdict("Slower.", "", Between([200, 200], [np.inf, np.inf]), [90, 80], 5)
    >>> verdict.bound, verdict.effect, verdict.answer
    ('at least', 115.0, 'supported')
    """
    arms = (("treatment", treatment), ("control", control))
    low, high = _difference(*(_bounds(name, arm, claim) for name, arm in arms))
    if not margin >= 0:
        raise ValueError(f"margin: expected a number of at least 0, got {margin}")
    least, lower = _end(low, "low")
    most, upper = _end(high, "high")
    if not powerless:
        if np.isinf(least) and np.isinf(most):
            powerless = "the outcomes lie beyond what was tried"
        elif np.isclose(lower, upper, rtol=1e-12, atol=0):  # equal numbers have inexact means
            powerless = "the difference is the same in all seeds"
    effect = least if np.isinf(most) else most if np.isinf(least) else (least + most) / 2
    if np.isinf(effect):
        effect = float("nan")
    answer: Answer = "undecided"
    if powerless:
        answer = "cannot tell"
    elif lower > margin:
        answer = "supported"
    elif upper < -margin:
        answer = "refuted"
    elif -margin <= lower and upper <= margin:
        answer = "no effect"
    return Verdict(claim, source, effect, lower, upper, margin, answer, len(low), powerless)


def _bounds(name: str, arm: ArrayLike | Between, claim: str) -> Between:
    """Return the bounds of an arm as arrays; exact outcomes are bounds that coincide."""
    bounded = isinstance(arm, Between)
    low, high = (np.asarray(a, np.float64) for a in (arm if bounded else (arm, arm)))
    if low.ndim != 1 or len(low) < 2 or low.shape != high.shape:
        raise ValueError(
            f"{name}: expected a shape (k,) with k >= 2, got {low.shape}"
            + (f" and {high.shape}" if bounded else "")
        )
    finite = (low < np.inf) & (high > -np.inf) if bounded else np.isfinite(low)
    if not finite.all():
        got = f"bounds {low[~finite][0]}, {high[~finite][0]}" if bounded else low[~finite][0]
        seed = f"seed {np.flatnonzero(~finite)[0]} of {len(low)}"
        raise ValueError(f"{name}: expected finite values, got {got} from {seed} ({claim})")
    if not (low <= high).all():
        raise ValueError(f"{name}: expected lower bounds that are at most the upper ones")
    return Between(low, high)


def _difference(treatment: Between, control: Between) -> Between:
    if len(treatment.low) != len(control.low):
        raise ValueError(
            "treatment, control: expected as many seeds in both, "
            f"got {len(treatment.low)} and {len(control.low)}"
        )
    return Between(treatment.low - control.high, treatment.high - control.low)


def _end(difference: NDArray[np.float64], end: Literal["low", "high"]) -> tuple[float, float]:
    """Return the mean of differences, and that end of their interval; infinite if one of them is.

    Differences are bounds below for "low", above for "high".
    """
    if not np.isfinite(difference).all():
        return (float(difference[np.isinf(difference)][0]),) * 2
    interval = mean_interval(difference)
    return float(interval.mean), float(getattr(interval, end))


def overall(verdicts: Mapping[str | tuple[str, ...], Verdict], *factors: str) -> str:
    """Put the verdicts on the cases of a claim into one answer.

    Parameters
    ----------
    verdicts : mapping of str, or tuple of str, to Verdict
        At least one. A key names the case: the level of each factor.
    *factors : str
        What the entries of a key stand for, such as "the data set"; for keys that are text, one.
        By default "the case".

    Returns
    -------
    str
        The answer that all decided cases share; after a colon, how many they are, if not all. With
        fewer than half of the cases decided, "undecided" or "cannot tell", whichever the more of
        the others are. If decided cases differ, "it depends on ..." with the factors that alone
        change the answer, and those that the answer to a case depends on; where there is none of
        either, all that vary.

    Raises
    ------
    ValueError
        If there is no case, or a key has not one entry a factor.

    Examples
    --------
    >>> from bnlib.experiments.records.verdict import overall, paired_verdict
    >>> many, few = [0.9, 0.8, 0.9], [0.2, 0.2, 0.3]
    >>> more = paired_verdict("More.", "", many, few, margin=0.1)
    >>> less = paired_verdict("More.", "", few, many, margin=0.1)
    >>> overall({("a", "x"): more, ("a", "y"): more, ("b", "x"): less}, "the data set", "the mode")
    'it depends on the data set'
    """
    factors = factors or ("the case",)
    answers = {key if isinstance(key, tuple) else (key,): v.answer for key, v in verdicts.items()}
    if not answers:
        raise ValueError("verdicts: expected at least one case, got none")
    for case in answers:
        if len(case) != len(factors):
            raise ValueError(f"verdicts: expected keys of {len(factors)} entries, got {case}")
    decided = {c: a for c, a in answers.items() if a in DECIDED or a.startswith(DEPENDS)}
    nested = {
        each
        for answer in decided.values()
        if answer.startswith(DEPENDS)
        for each in answer.removeprefix(f"{DEPENDS} ").split(" and ")
    }
    if 2 * len(decided) < len(answers):
        others = [answer for answer in answers.values() if answer not in DECIDED]
        return max(("undecided", "cannot tell"), key=others.count)
    if len({*decided.values()}) == 1:
        (answer,) = {*decided.values()}
        some = f": {len(decided)} of {len(answers)} cases, the others cannot be told"
        return answer if len(decided) == len(answers) else answer + some
    alone = [
        factor
        for i, factor in enumerate(factors)
        if any(
            decided[one] != decided[other] and _without(one, i) == _without(other, i)
            for one in decided
            for other in decided
        )
    ]
    varied = [f for i, f in enumerate(factors) if len({case[i] for case in decided}) > 1]
    on = dict.fromkeys([*(alone or ([] if nested else varied)), *sorted(nested)])
    return f"{DEPENDS} {' and '.join(on)}"


def case_name(key: str | tuple[str, ...]) -> str:
    """Write the key of a case in words."""
    return key if isinstance(key, str) else ", ".join(key)


def averaged(
    average: Verdict, parts: Mapping[str | tuple[str, ...], Verdict], *factors: str
) -> Verdict:
    """Let a verdict on an average stand only where its parts do not have different answers.

    Parameters
    ----------
    average : Verdict
        On the mean of the parts.
    parts : mapping, *factors
        As in `overall`.

    Returns
    -------
    Verdict
        `average`; or, with the answer "it depends on ...", no effect, and an interval from the
        least to the largest end of those of the parts.
    """
    answer = overall(parts, *factors)
    if not answer.startswith(DEPENDS):
        return average
    low, high = min(v.low for v in parts.values()), max(v.high for v in parts.values())
    return replace(average, effect=float("nan"), low=low, high=high, answer=answer, reason="")


def _without(case: tuple[str, ...], i: int) -> tuple[str, ...]:
    return case[:i] + case[i + 1 :]


def check_two_arms(arms: Sequence[str], name: str = "norms") -> None:
    """Raise ValueError unless there are two, the control and the treatment.

    Parameters
    ----------
    arms : sequence of str
    name : str
        The field of the config, for the message.
    """
    if len(arms) != 2:
        raise ValueError(f"{name}: expected two arms, the control first, got {arms}")
