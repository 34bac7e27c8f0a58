"""A norm takes its means over too few values in train mode.

The mean and the variance of a mini-batch are estimates, and with n values the relative error of the
variance is about sqrt(2 / (n - 1)). With one value the output does not depend on the input, and
torch refuses it; with two, each output is plus or minus one. What counts is the number of values
for each mean, examples times positions: two images of 32 x 32 pixels have 2,048. The last
mini-batch of an epoch and feature maps of 1 x 1 are where few come from.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "warning"
NEEDS = ("forward",)
FIX = (
    "drop_last=True if it is the last mini-batch; else larger mini-batches, SyncBatchNorm over the "
    "processes, or surgery.replace by group norms"
)
CHAPTER = "alternatives"

FEWEST = 9
"""With 9 values the relative error of the variance, sqrt(2 / 8), is a half."""

HOPELESS = 2
"""Of two values only the order is left."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with few values, those with equally few in one hit."""
    found: dict[tuple[int, bool], list[str]] = {}
    for name, calls in case.attempt(training=True).calls.items():
        used = [call.values for call in calls if call.uses_batch]
        if not used:
            continue
        fewest, last = min(used), False
        if case.last_batch and case.last_batch[0] < case.last_batch[1]:
            in_last = max(used) * case.last_batch[0] // case.last_batch[1]
            fewest, last = min(fewest, in_last), in_last < fewest
        if fewest < FEWEST:
            found.setdefault((fewest, last), []).append(name)
    for (fewest, last), names in sorted(found.items()):
        where = " in the last mini-batch of the loader" if last else ""
        yield hit(
            names,
            f"A mean is taken over {fewest} value{'s' * (fewest != 1)}{where}.",
            severity="error" if fewest <= HOPELESS else None,
            values=fewest,
            last_batch=last,
        )
