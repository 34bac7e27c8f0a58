"""The scale and the shift of a norm are frozen, but its running statistics move.

``requires_grad = False`` stops the optimizer. It does not stop the update of the running
statistics, because train mode makes it in the forward pass. So a frozen backbone changes from batch
to batch, and in train mode it normalizes by the mini-batch. A teacher whose weights follow those of
its student is not frozen: a watched loop shows that they change.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.doctor.norms import Norm

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = "`bnlib.surgery.freeze(model, layers=finding.where)`, which train() does not undo"
CHAPTER = "fine_tuning_and_freezing"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms in train mode whose parameters do not learn, in one hit."""
    watched = case.record.norms if case.record else {}
    followers = {name for name, seen in watched.items() if seen.learned}
    moving = [
        norm
        for norm in case.norms.values()
        if _moves(norm) and _is_fixed(norm) and norm.name not in followers
    ]
    if moving:
        updates = max(_updates(case, norm) for norm in moving)
        message = (
            f"{counted(len(moving), 'norm')} without a parameter that learns would update the "
            "running statistics in each forward pass"
            + (f", and did so {updates} times in the watched loop." if updates else ".")
        )
        names = [norm.name for norm in moving]
        yield hit(names, message, norms=len(moving), updates=updates)


def _moves(norm: Norm) -> bool:
    return norm.tracks and norm.uses_batch and norm.momentum != 0


def _is_fixed(norm: Norm) -> bool:
    affine = [norm.tensors[key] for key in ("weight", "bias") if key in norm.tensors]
    return bool(affine) and not any(p.requires_grad for p in affine)


def _updates(case: Case, norm: Norm) -> int:
    seen = case.record.norms.get(norm.name) if case.record else None
    if seen is None:
        return 0
    before, after = seen.updates
    return seen.modes["train"] if before is None or after is None else after - before
