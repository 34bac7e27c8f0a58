"""Dropout before a norm makes the variance in training larger than in evaluation.

Dropout keeps the mean and raises the variance. The running variance learns the raised one, so in
eval mode, without dropout, the norm divides by too much. In the networks of the chapter the
difference was too small to measure at a probability of 0.1, and cost accuracy at 0.3 and 0.5. The
rule measures the variance at the norm with dropout and without, for the same examples. A norm in
eval mode is healthy if its running variance is the one without: recalibration, which switches
dropout off, gives it that one, and only further training raises it again.
"""

from collections.abc import Iterator

import torch

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, above, counted, hit
from bnlib.doctor.norms import Norm, is_initial
from bnlib.doctor.observe import Call

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = (
    "dropout behind the last norm; or, once trained, statistics without dropout: "
    "`model.eval()`, then `bnlib.surgery.recalibrate(model, loader)`"
)
CHAPTER = "regularization"

RATIO = 1.25
"""Dropout of 0.2 raises the variance of a variable of mean zero by this factor, 1 / (1 - 0.2). That
lies between 0.1, which was measured to be harmless, and 0.3, which cost accuracy."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms whose variance dropout raises, the one it raises most first, in one hit."""
    without = case.forward(training=True, dropout=False).calls
    ratios = {}
    for name, calls in case.forward(training=True).calls.items():
        uses_batch = case.norms[name].family == "batch" and all(call.uses_batch for call in calls)
        if uses_batch and name in without:
            with_dropout, plain = _variance(calls), _variance(without[name])
            norm = case.norms[name]
            live = plain > (norm.eps or 0.0)
            if live.any() and not _knows(norm, plain, live):
                ratios[name] = float((with_dropout / plain)[live].median())
    raised = above(ratios, RATIO)
    if raised:
        message = (
            f"Dropout raises the variance at {counted(len(raised), 'norm')}, that of the median "
            f"channel {ratios[raised[0]]:.2f} times."
        )
        yield hit(raised, message, ratio=ratios[raised[0]], norms=len(raised))


def _knows(norm: Norm, plain: torch.Tensor, live: torch.Tensor) -> bool:
    """Whether eval mode divides by the variance without dropout."""
    if norm.mode != "eval" or norm.var is None or is_initial(norm):
        return False
    return float((norm.var.to(plain) / plain)[live].median()) <= RATIO


def _variance(calls: list[Call]) -> torch.Tensor:
    return torch.stack([call.var for call in calls]).mean(0)
