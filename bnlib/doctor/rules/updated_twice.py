"""Running statistics are updated twice for the same mini-batch.

Checkpointing runs a part of the model again in the backward pass, and a norm in it updates its
running statistics again. The average forgets faster than its momentum says: two updates at 0.1
weigh 0.19.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure", "watch")
FIX = (
    "leave the norms out of the checkpointed part; or momentum = 1 - (1 - momentum) ** 0.5 for "
    "them, and ignore this rule"
)
CHAPTER = "fine_tuning_and_freezing"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms that ran again in a backward pass, in one hit."""
    assert case.record is not None
    again = {n: seen.repeated for n, seen in case.record.norms.items() if seen.repeated > 0}
    if again:
        calls = max(again.values())
        message = (
            f"{counted(len(again), 'norm')} ran again in train mode within the backward pass, "
            f"{counted(calls, 'time')}, and updated the running statistics again."
        )
        yield hit(again, message, norms=len(again), calls=calls)
