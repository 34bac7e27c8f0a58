"""The data differ from those of training already at the first norm.

Its input has often passed one layer only, so its batch statistics tell of the data. If they are not
what the norm saw in training, then either the preprocessing differs (0 to 255 in place of 0 to 1,
BGR in place of RGB, no standardization), or the data do.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.norms import arrived
from bnlib.doctor.statistics import NOISE, gap

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = (
    "the preprocessing of training; or, if the data are meant to differ, `model = "
    "bnlib.surgery.adapt(model, loader)`"
)
CHAPTER = "debugging"

GAP = 0.5
"""Half a standard deviation, in half of the channels: twice that of `train_eval_gap`, because this
rule names the data as the cause; that one reports milder gaps without naming a cause."""


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
