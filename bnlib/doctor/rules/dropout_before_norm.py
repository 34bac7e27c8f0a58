"""Dropout before a norm makes the variance of training another one than that of evaluation.

Dropout keeps the mean and raises the variance; the running variance learns the raised one, and in
eval mode, without dropout, the norm divides by too much. At a probability of 0.1 the difference was
too small to measure in the book, at 0.3 and 0.5 it cost accuracy. What counts is measured here:
the variance at the norm with dropout and without, for the same examples.
"""

from collections.abc import Iterator

import torch

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.doctor.observe import Call

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = "dropout behind the last norm, or surgery.recalibrate(model, loader), which has it off"
CHAPTER = "regularization"

RATIO = 1.25
"""What dropout of 0.2 does to a variable of mean zero, 1 / (1 - 0.2): between the doses of which
one was measured to be harmless and the other to cost."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms whose variance dropout raises, the one it raises most first, in one hit."""
    without = case.forward(training=True, dropout=False).calls
    ratios = {}
    for name, calls in case.forward(training=True).calls.items():
        uses_batch = case.norms[name].family == "batch" and all(call.uses_batch for call in calls)
        if uses_batch and name in without:
            with_dropout, plain = _variance(calls), _variance(without[name])
            live = plain > (case.norms[name].eps or 0.0)
            if live.any():
                ratios[name] = float((with_dropout / plain)[live].median())
    raised = sorted((n for n in ratios if ratios[n] > RATIO), key=lambda name: -ratios[name])
    if raised:
        message = (
            f"Dropout raises the variance at {counted(len(raised), 'norm')}, that of the median "
            f"channel {ratios[raised[0]]:.2f} times."
        )
        yield hit(raised, message, ratio=ratios[raised[0]], norms=len(raised))


def _variance(calls: list[Call]) -> torch.Tensor:
    return torch.stack([call.var for call in calls]).mean(0)
