"""A part of the model runs without gradients, but in train mode, and its statistics move.

``torch.no_grad()`` around a backbone stops its weights, not the update of its running statistics.
So the features that the head learns from drift, and in eval mode they are not those of training.
Parts that learn otherwise are healthy: a generator while its discriminator is trained, a teacher
that follows its student.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure", "watch")
FIX = (
    "surgery.freeze(model, layers=...) if the part is to stay as it is; surgery.pause_statistics "
    "for a single pass"
)
CHAPTER = "fine_tuning_and_freezing"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms that moved within a pass with gradients, in one hit."""
    record = case.record
    assert record is not None
    if record.ran_without_gradients:
        return  # the whole model did, which is the subject of `eval_forgotten`
    calls = {n: seen.moved_without_gradient for n, seen in record.norms.items()}
    moved = [
        name
        for name, seen in record.norms.items()
        if calls[name] and not seen.in_backward and not seen.learned
    ]
    if moved:
        message = (
            f"{counted(len(moved), 'norm')} updated the running statistics while gradients were "
            f"off, {max(calls[n] for n in moved)} times, within passes that train the rest."
        )
        yield hit(moved, message, norms=len(moved), calls=max(calls[n] for n in moved))
