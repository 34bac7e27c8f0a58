"""The data differ from those of training already at the first norm.

Its input has passed one layer only, so its batch statistics are those of the data. Where they are
not what the norm has seen in training, the preprocessing is another one (0 to 255 for 0 to 1, BGR
for RGB, no standardization) or the data are.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.norms import arrived
from bnlib.doctor.statistics import NOISE, gap

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = "the preprocessing of training; if the data are meant to differ: surgery.adapt(model, loader)"
CHAPTER = "debugging"

GAP = 0.5
"""Half a standard deviation, in half of the channels: twice what `train_eval_gap` asks for, which
speaks of milder shifts without naming the data as their cause."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the first norm, if its input is not what its running statistics say."""
    calls = case.forward(training=False).calls
    first = next(iter(calls))
    norm = case.norms[first]
    if norm.family == "instance" or not arrived(norm):
        return
    examples = sum(call.shape[0] for call in calls[first])
    shift = gap(norm, calls[first])
    if shift > max(GAP, NOISE / examples**0.5):
        message = (
            f"On {examples} examples the median channel of the first norm is {shift:.2g} standard "
            "deviations from what the norm saw in training."
        )
        yield hit(first, message, gap=shift, examples=examples)
