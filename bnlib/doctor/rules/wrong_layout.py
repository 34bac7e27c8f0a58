"""The second axis of the input is not the channels.

torch's batch norms average over all axes but the second. Sequences as (examples, time, features) or
images with the channels last run without an error if the sizes happen to agree, or if the norm was
built for the length; then each time step or row is standardized over all features. The rule finds
the channels by the axis that explains the values, because features have means of their own and
positions hardly do. Where no layer has made features on the last axis, it is a note.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.observe import Call

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
    calls = case.attempt(training=True).calls
    shares = {
        name: min(_explained(call) for call in each)
        for name, each in calls.items()
        if case.norms[name].family != "frozen"
    }
    wrong = [n for n, (last, others) in shares.items() if last > max(LAST, TIMES * others)]
    if wrong:
        last, others = shares[wrong[0]]
        message = (
            f"The last axis explains {last:.0%} of the variance of the input, the other ones, that "
            f"of the channels among them, at most {others:.1%}."
        )
        made = any(_makes_features(case, name, calls[name][0]) for name in wrong)
        severity = None if made else "note"
        yield hit(wrong, message, severity=severity, last_axis=last, other_axes=others)


def _makes_features(case: Case, name: str, call: Call) -> bool:
    """Whether a matrix of the model, such as that of a linear layer, has the size of the last axis.

    Or whether it is that of the norm. Signals that are cut around an event or a spectrum on the
    last axis are explained by position, too, but no layer has made them.
    """
    sizes = {size for p in case.model.parameters() if p.dim() == 2 for size in p.shape}
    return call.positions.shape[-1] in sizes | {len(call.mean)}


def _explained(call: Call) -> tuple[float, float]:
    """Return the shares of the variance that the last axis explains, and the best other one."""
    between = float(call.mean.var(correction=0))
    var = between + float(call.var.mean())
    sizes = call.positions.shape
    if not sizes or len(call.mean) < 2 or sizes[-1] < 2 or not var:
        return 0.0, 0.0
    axes = [
        float(call.positions.movedim(axis, 0).reshape(sizes[axis], -1).mean(1).var(correction=0))
        for axis in range(len(sizes))
    ]
    return axes[-1] / var, max([between, *axes[:-1]]) / var
