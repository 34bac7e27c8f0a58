"""Running statistics are updated twice for the same mini-batch.

Checkpointing runs a part of the model again in the backward pass, and a norm in it updates its
running statistics again. A second pass with gradients on the same tensor before the optimizer's
step does so, too, as in sharpness-aware minimization, or to measure the accuracy. So the average
forgets faster than its momentum says: two updates at 0.1 weigh as much as one at 0.19.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure", "watch")
FIX = (
    "the second pass within `bnlib.surgery.pause_statistics(model)`; in "
    "torch.utils.checkpoint.checkpoint by `context_fn=lambda: (contextlib.nullcontext(), "
    "bnlib.surgery.pause_statistics(model))`; or a momentum of 1 - (1 - momentum) ** 0.5, and "
    "ignore this rule"
)
CHAPTER = "fine_tuning_and_freezing"

SHARE = 0.5
"""Second passes on the same tensor per step: in fewer it is an occasional look. A repetition in the
backward pass always counts."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms that ran again in a backward pass, or on the same tensor, in one hit each."""
    record = case.record
    assert record is not None
    record.require()
    twice = {n: s.again for n, s in record.norms.items() if s.again >= SHARE * record.steps > 0}
    if twice:
        calls = max(twice.values())
        message = (
            f"{counted(len(twice), 'norm')} saw the same mini-batch again {counted(calls, 'time')} "
            f"in {counted(record.steps, 'step')}, and updated the running statistics again."
        )
        yield hit(twice, message, norms=len(twice), calls=calls)
    again = {n: seen.repeated for n, seen in record.norms.items() if seen.repeated > 0}
    if again:
        calls = max(again.values())
        message = (
            f"{counted(len(again), 'norm')} ran again in train mode within the backward pass, "
            f"{counted(calls, 'time')}, and updated the running statistics again."
        )
        yield hit(again, message, norms=len(again), calls=calls)
