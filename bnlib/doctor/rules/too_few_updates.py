"""The running statistics have not arrived yet: they still hold a share of 0 and 1.

After n updates the share of the initial values in an exponential average is (1 - momentum)^n: 35 %
after 10 updates at PyTorch's 0.1, and at 0.01 still 37 % after 100. It happens in short trainings,
with a small momentum, and in evaluations during the first epoch. Beside a small variance what is
left of the 1 weighs more, so the rule takes its share in the running variance. It is computed from
the counter of updates, which recalibration does not change. So if there are mini-batches, the
statistics must differ from theirs, too; without mini-batches the finding is a note.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, above, counted, hit
from bnlib.doctor.norms import LEFT, Norm, initial_share
from bnlib.doctor.observe import Call
from bnlib.doctor.statistics import NOISE, gap

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = (
    "`bnlib.surgery.recalibrate(model, loader)` before evaluating; or momentum=None, an even "
    "average, in training"
)
CHAPTER = "inference"

GAP = 0.1
"""Of a standard deviation, from the mini-batches that were given, in half of the channels: the mean
of a hundred values is off by as much, 1 / sqrt(100). For few examples the limit is larger, NOISE
divided by the root of their number."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with too much left, the one with most first, in one hit."""
    left = {n.name: initial_share(n) for n in case.norms.values() if n.updates and not n.frozen}
    late = above(left, LEFT)
    if late and case.batches:
        calls = case.attempt(training=True).calls
        late = [n for n in late if n in calls and _is_off(case.norms[n], calls[n])]
    if late:
        first = case.norms[late[0]]
        message = (
            f"After {first.updates} updates {left[late[0]]:.0%} of the running variance is still "
            f"the initial 1, in {counted(len(late), 'norm')}."
        )
        severity = None if case.batches else "note"
        yield hit(late, message, severity=severity, updates=first.updates, left=left[late[0]])


def _is_off(norm: Norm, calls: list[Call]) -> bool:
    """Whether the statistics differ from those of the mini-batches by more than chance."""
    examples = sum(call.shape[0] for call in calls)
    return gap(norm, calls) > max(GAP, NOISE / examples**0.5)
