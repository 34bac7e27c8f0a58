"""A running variance is below zero, which no data give.

Arithmetic on checkpoints does this: extrapolated averages of weights, differences of models, a
conversion that exchanged mean and variance. If the variance is below minus eps, eval mode returns
NaN; between minus eps and zero it divides by less than sqrt(eps), so the channel is far too large.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "error"
NEEDS = ("state",)
FIX = (
    "combine parameters only and leave the buffers out; then "
    "`bnlib.surgery.recalibrate(model, loader)`"
)
CHAPTER = "questions#q-nan-statistics"


def check(case: Case) -> Iterator[Hit]:
    """Yield each norm with a negative running variance."""
    for norm in case.norms.values():
        if norm.var is not None and (norm.var < 0).any():
            count, least = int((norm.var < 0).sum()), float(norm.var.min())
            message = (
                f"The running variance of {counted(count, 'channel')} is negative, the least is "
                f"{least:.3g}."
            )
            yield hit(norm.name, message, channels=count, least=least)
