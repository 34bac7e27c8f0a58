"""A norm is called several times in one pass, and each time with other statistics.

Examples are shared towers, heads shared over the levels of a pyramid, and a norm that is reused at
each time step. Train mode standardizes each call by itself, but there is one running mean for all
of them, so in eval mode none of the streams is standardized.
"""

from collections.abc import Iterator
from itertools import groupby

import torch

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, above, hit
from bnlib.doctor.observe import Call

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = (
    "a norm for each stream (`bnlib.nn.SplitBatchNorm2d`, or a list of norms), or one call "
    "for all of them"
)
CHAPTER = "questions#q-gan"

GAP = 0.25
"""Of a standard deviation: how far a call is from the mixture of the calls in mean and spread, in
half of the channels and in each mini-batch. It is that of `train_eval_gap`, since eval mode is off
by as much."""

LEAST = 16
"""Fewest values per mean: with 16, chance moves a mean by a quarter of a standard deviation, which
is the threshold; with fewer it moves it by more."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms whose calls differ, the most different first, in one hit."""
    gaps, calls_of = {}, {}
    for name, calls in case.forward(training=True).calls.items():
        seen = [call for call in calls if call.uses_batch and call.values >= LEAST]
        turns = [list(group) for _, group in groupby(seen, key=lambda call: call.batch)]
        turns = [turn for turn in turns if len(turn) > 1]
        if case.norms[name].family == "batch" and turns:
            calls_of[name] = max(len(turn) for turn in turns)
            gaps[name] = min(_apart(turn) for turn in turns)
    apart = above(gaps, GAP)
    if apart:
        first = apart[0]
        message = (
            f"Its {calls_of[first]} calls in one pass are up to {gaps[first]:.2g} standard "
            "deviations from their mixture in the median channel, and share one running mean."
        )
        yield hit(apart, message, gap=gaps[first], calls=calls_of[first])


def _apart(calls: list[Call]) -> float:
    """Return how far the calls of one pass are from their mixture, the median over channels."""
    means = torch.stack([call.mean for call in calls])
    stds = torch.stack([call.var for call in calls]).sqrt()
    mixed = (stds**2).mean(0) + means.var(0, correction=0)
    live = mixed > 0
    shift, scale = means - means.mean(0), stds - mixed.sqrt()
    each = ((shift**2 + scale**2) / mixed)[:, live]
    return float(each.amax(0).sqrt().median()) if live.any() else 0.0
