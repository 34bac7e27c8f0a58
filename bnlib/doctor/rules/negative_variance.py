"""A running variance is below zero, which no data give.

Arithmetic on checkpoints does this: extrapolated averages of weights, differences of models, a
conversion that exchanged mean and variance. Below minus eps, eval mode returns NaN; above it, the
channel is blown up.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "error"
NEEDS = ("state",)
FIX = "surgery.recalibrate(model, loader), after a look at what wrote the buffers"
CHAPTER = "inference"


def check(case: Case) -> Iterator[Hit]:
    """Yield each norm with a negative running variance."""
    for norm in case.norms.values():
        if norm.var is not None and (norm.var < 0).any():
            count, least = int((norm.var < 0).sum()), float(norm.var.min())
            message = (
                f"The running variance of {count} channels is negative, the least {least:.3g}."
            )
            yield hit(norm.name, message, channels=count, least=least)
