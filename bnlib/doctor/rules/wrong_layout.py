"""The second axis of the input is not the channels.

torch's batch norms average over all axes but the second. Sequences as (examples, time, features) or
images with the channels last run without an error if the sizes happen to agree, or if the norm was
built for the length; then each time step or row is standardized over all features. The rule finds
the channels by the axis that explains the values, because features have means of their own and
positions hardly do.
"""

from collections.abc import Iterator

from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.norms import Norm

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = (
    "`norm(x.transpose(1, 2)).transpose(1, 2)`; for images `norm(x.movedim(-1, 1)).movedim(1, -1)`"
)
CHAPTER = "questions#q-which-dimension"

LAST = 0.05
"""Share of the variance that the last axis explains. In small trained networks positions on the
last axis explained up to 0.03, and features there 0.1 and more."""

TIMES = 10.0
"""Times as much as any other axis explains, the second among them. In images the positions of the
last axis may explain a part, because a digit has its ink in the middle; but then the axis before it
explains about as much."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms whose last axis looks like the channels, in one hit."""
    seen = case.look(_explained, training=True).seen
    shares = {name: min(each) for name, each in seen.items() if case.norms[name].family != "frozen"}
    wrong = [n for n, (last, others) in shares.items() if last > max(LAST, TIMES * others)]
    if wrong:
        last, others = shares[wrong[0]]
        message = (
            f"The last axis explains {last:.0%} of the variance of the input, the other ones, that "
            f"of the channels among them, at most {others:.1%}."
        )
        yield hit(wrong, message, last_axis=last, other_axes=others)


def _explained(norm: Norm, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the shares of the variance that the last axis explains, and the best other one."""
    if x.dim() < 3 or x.shape[1] < 2 or x.shape[-1] < 2:
        return 0.0, 0.0
    x = x.double()
    var = float(x.var(correction=0))
    if not var:
        return 0.0, 0.0
    *others, last = (_between(x, axis) / var for axis in range(1, x.dim()))
    return last, max(others)


def _between(x: Tensor, axis: int) -> float:
    """Return the variance of the means over all other axes."""
    return float(x.movedim(axis, 0).flatten(1).mean(1).var(correction=0))
