"""A part of the model runs without gradients, but in train mode, and its statistics move.

``torch.no_grad()`` around a backbone stops its weights, but not the update of its running
statistics. So in train mode the head learns from features that depend on the mini-batch, and in
eval mode the features are others. Parts that learn otherwise are healthy: a generator while its
discriminator is trained, a teacher that follows its student. So are parts that checkpointing runs
again in the backward pass. Passes of the whole model are the subject of `eval_forgotten`.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure", "watch")
FIX = (
    "`bnlib.surgery.freeze(model, layers=finding.where)` if the part is to stay as it is; or, "
    "for a single pass, run it within `bnlib.surgery.pause_statistics(model)`"
)
CHAPTER = "fine_tuning_and_freezing"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms that moved without gradients while the rest had them, in one hit."""
    record = case.record
    assert record is not None
    record.require()
    calls = {n: seen.moved_without_gradient for n, seen in record.norms.items()}
    moved = [
        name
        for name, seen in record.norms.items()
        if calls[name] > record.passes_without_gradients
        and not seen.in_backward
        and not seen.learned
    ]
    if moved:
        message = (
            f"{counted(len(moved), 'norm')} updated the running statistics while gradients were "
            f"off, {max(calls[n] for n in moved)} times, within passes that train the rest."
        )
        yield hit(moved, message, norms=len(moved), calls=max(calls[n] for n in moved))
