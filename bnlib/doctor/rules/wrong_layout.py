"""The second axis of the input is not the channels.

torch's norms average over all axes but the second. Sequences as (examples, time, features) or
images with the channels last run without an error if the sizes happen to agree, or if the norm was
built for the length; then each time step or row is standardized over all features. It is seen by
which axis explains the values: features have means of their own, positions hardly do, but for
raw signals that are aligned.
"""

from collections.abc import Iterator

from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.norms import Norm

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = "norm(x.transpose(1, 2)).transpose(1, 2), or x.movedim(-1, 1) for images"
CHAPTER = "convolution"

LAST = 0.1
"""Share of the variance that the last axis explains. The means of features explain more: 1 / pi of
it behind a random layer on a ReLU, and an eighth where it was least, behind an LSTM."""

TIMES = 10.0
"""More than the second axis explains."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms whose last axis looks like the channels, in one hit."""
    seen = case.look(_explained, training=True).seen
    shares = {name: min(each) for name, each in seen.items() if case.norms[name].family != "frozen"}
    wrong = [n for n, (last, second) in shares.items() if last > max(LAST, TIMES * second)]
    if wrong:
        last, second = shares[wrong[0]]
        message = (
            f"The last axis explains {last:.0%} of the variance of the input, the second, which is "
            f"that of the channels, {second:.1%}."
        )
        yield hit(wrong, message, last_axis=last, second_axis=second)


def _explained(norm: Norm, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the shares of the variance that means over all but the last, or second, axis have."""
    if x.dim() < 3 or x.shape[1] < 2 or x.shape[-1] < 2:
        return 0.0, 0.0
    x = x.double()
    var = float(x.var(correction=0))
    if not var:
        return 0.0, 0.0
    others = [tuple(set(range(x.dim())) - {axis}) for axis in (x.dim() - 1, 1)]
    return tuple(float(x.mean(axes).var(correction=0)) / var for axes in others)  # type: ignore[return-value]
