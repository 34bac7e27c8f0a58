"""The output of the model is the output of a norm.

In train mode each output is standardized over the mini-batch, so the mean of all predictions is the
shift whatever the inputs are. So a regression cannot follow a mini-batch whose targets are all
large, and a classifier cannot raise the mean score of a class in a mini-batch that holds this class
only. Behind an embedding such a norm may be wanted, as in some contrastive methods. This is likely
if it has no scale and shift, or if feature maps are returned, so there the finding is a note.
"""

from collections.abc import Iterator

from torch import nn

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.norms import Norm
from bnlib.doctor.observe import Call

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = (
    "end with the linear layer (`model = model[:-1]` if the model is a torch.nn.Sequential), "
    "or put the norm before it"
)
CHAPTER = "questions#q-on-the-output"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms whose output the model returns, in one hit."""
    calls = case.forward(training=True).calls
    last = {n: c[-1] for n, c in calls.items() if _is_last(case.norms[n], c[-1])}
    if last:
        channels = min(len(call.mean) for call in last.values())
        sure = any(len(c.shape) == 2 and "weight" in case.norms[n].tensors for n, c in last.items())
        message = f"The model returns what a norm gave, {channels} channels of it, unchanged."
        yield hit(last, message, severity=None if sure else "note", channels=channels)


def _is_last(norm: Norm, call: Call) -> bool:
    """Whether the model returns what it gave; an activation function may be a part of a norm."""
    plain = all(type(child) is nn.Identity for child in norm.module.children())
    return norm.family == "batch" and call.uses_batch and call.is_output and plain
