"""The output of the model is the output of a norm.

In train mode each output is standardized over the mini-batch, so the mean of all predictions is the
shift whatever the inputs are: a regression cannot follow a mini-batch whose targets are all large,
a classifier cannot give all of its examples one class. Behind an embedding it is wanted, as in some
contrastive methods.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = "end with the linear layer: model[:-1], or the norm before the last layer"
CHAPTER = "placement"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms whose output the model returns, in one hit."""
    calls = case.forward(training=True).calls
    last = {n: c for n, c in calls.items() if case.norms[n].family == "batch" and c[-1].is_output}
    if last:
        channels = min(len(c[-1].mean) for c in last.values())
        message = f"The model returns what a norm gave, {channels} channels of it, unchanged."
        yield hit(last, message, channels=channels)
