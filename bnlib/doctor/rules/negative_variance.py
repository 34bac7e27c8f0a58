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
    """Yield the norms with a negative running variance, the least first, in one hit."""
    least, channels = {}, 0
    for norm in case.norms.values():
        if norm.var is not None and (negative := norm.var < 0).any():
            least[norm.name] = float(norm.var.min())
            channels += int(negative.sum())
    names = sorted(least, key=lambda name: least[name])
    if names:
        message = (
            f"The running variance of {counted(channels, 'channel')} in "
            f"{counted(len(names), 'norm')} is negative, the least is {least[names[0]]:.3g}."
        )
        yield hit(names, message, channels=channels, least=least[names[0]])
