"""What an experiment answers to a claim: a paired difference, its interval, and one word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from bnlib.measure.interval import CONFIDENCE as CONFIDENCE
from bnlib.measure.interval import mean_interval

Answer = Literal["supported", "refuted", "mixed", "no effect"]


@dataclass(frozen=True)
class Verdict:
    """The answer to a claim, with the numbers that it follows from.

    Attributes
    ----------
    claim, source : str
        One sentence, and who says so.
    effect, low, high : float
        Mean over seeds of the paired difference, and the ends of its 95 % t-interval.
    margin : float
        Smallest effect that counts, fixed before the experiment.
    answer : {"supported", "refuted", "mixed", "no effect"}
        Where the interval lies: above `margin`, below -`margin`, inside both, or (mixed) across
        one of them.
    seeds : int
        How many pairs the effect is the mean of.
    """

    claim: str
    source: str
    effect: float
    low: float
    high: float
    margin: float
    answer: Answer
    seeds: int


def paired_verdict(
    claim: str, source: str, treatment: ArrayLike, control: ArrayLike, margin: float
) -> Verdict:
    """Judge a claim of the form "the treatment has more of it than the control".

    Parameters
    ----------
    claim, source : str
        For the verdict.
    treatment, control : array_like of shape (k,)
        One number a seed; entry i of both comes from seed i.
    margin : float
        Smallest effect that counts, at least 0.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        The shapes are not one (k,) with k >= 2, a value is not finite, or the margin is negative.

    Notes
    -----
    The interval contains the true effect in 95 % of all experiments if the differences are normal,
    and at least about as often if they are symmetric, as the differences of two equally skewed
    arms are. Skewed differences make it miss more often, and on one side: at 16 seeds it contains
    the mean of exponentially distributed differences in 91 %.

    Examples
    --------
    >>> from bnlib.experiments.records.verdict import paired_verdict
    >>> paired_verdict("More.", "", [0.9, 0.8, 0.9], [0.2, 0.1, 0.3], margin=0.1).answer
    'supported'
    """
    treatment, control = np.asarray(treatment, np.float64), np.asarray(control, np.float64)
    if treatment.ndim != 1 or len(treatment) < 2 or treatment.shape != control.shape:
        raise ValueError(
            f"treatment, control: expected one shape (k,) with k >= 2, got {treatment.shape} "
            f"and {control.shape}"
        )
    difference = treatment - control
    if not np.isfinite(difference).all():
        raise ValueError("treatment, control: expected finite values")
    if not margin >= 0:
        raise ValueError(f"margin: expected a number of at least 0, got {margin}")
    effect, low, high = map(float, mean_interval(difference))
    answer: Answer = "mixed"
    if low > margin:
        answer = "supported"
    elif high < -margin:
        answer = "refuted"
    elif -margin <= low and high <= margin:
        answer = "no effect"
    return Verdict(claim, source, effect, low, high, margin, answer, len(difference))


def common_answer(verdicts: Iterable[Verdict]) -> Answer:
    """Return the answer that all verdicts share, or "mixed".

    Parameters
    ----------
    verdicts : iterable of Verdict
        At least one.

    Returns
    -------
    {"supported", "refuted", "mixed", "no effect"}
    """
    answers = {verdict.answer for verdict in verdicts}
    return answers.pop() if len(answers) == 1 else "mixed"


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
