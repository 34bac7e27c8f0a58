"""A norm takes its means over too few values in train mode.

The mean and the variance of a mini-batch are estimates, and with n values the relative error of the
variance is about sqrt(2 / (n - 1)). With one value the output does not depend on the input, and
torch refuses it; with two, each output is plus or minus one. What counts is the number of values
for each mean, which is examples times positions: two images of 32 x 32 pixels have 2,048. Few
values come from a small last mini-batch of an epoch, or from feature maps of 1 x 1.
"""

import sys
from collections.abc import Iterator

import torch

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.doctor.norms import values_per_mean
from bnlib.doctor.observe import Call, NotPossibleError

SEVERITY = "warning"
NEEDS = ("forward or watch",)
FIX = (
    "drop_last=True in the loader, if it is the last mini-batch; else larger mini-batches, "
    "`model = bnlib.nn.convert_sync_batchnorm(model)` if there are several processes, or "
    "`model = bnlib.surgery.replace(model, bnlib.surgery.group_norm())`"
)
CHAPTER = "debugging"

FEWEST = 9
"""With 9 values the relative error of the variance, sqrt(2 / 8), is a half; with fewer it is
more."""

HOPELESS = 2
"""Of two values only the order is left, so from here on the finding is an error."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with few values, those with equally few in one hit."""
    found: dict[tuple[int, bool], list[str]] = {}
    calls = _calls(case) if case.batches else {}
    for name, fewest in case.values().items():
        in_last = _in_last_batch(case, name, calls.get(name, []))
        if min(fewest, in_last) < FEWEST:
            found.setdefault((min(fewest, in_last), in_last < fewest), []).append(name)
    for (fewest, last), names in sorted(found.items()):
        where = " in the last mini-batch of the loader" if last else ""
        yield hit(
            names,
            f"A mean is taken over {counted(fewest, 'value')}{where}.",
            severity="error" if fewest <= HOPELESS else None,
            values=fewest,
            last_batch=last,
        )


def _calls(case: Case) -> dict[str, list[Call]]:
    made = case.attempt(training=True)
    if made.failed and not made.outputs and not case.model.training:
        raise NotPossibleError(
            "mini-batches as in training: train mode refuses those of this model"
        )
    return made.calls


def _in_last_batch(case: Case, name: str, calls: list[Call]) -> int:
    """Return the values per mean in a smaller last mini-batch of the data loader."""
    used = [call for call in calls if call.uses_batch]
    if not used or case.last_batch is None or case.last_batch[0] == case.last_batch[1]:
        return sys.maxsize
    examples, *others = max(used, key=lambda call: call.values).shape
    last = examples * case.last_batch[0] // case.last_batch[1]
    return values_per_mean(case.norms[name].module, torch.empty((last, *others), device="meta"))
