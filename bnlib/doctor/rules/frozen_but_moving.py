"""The scale and the shift of a norm are frozen, but its running statistics move.

``requires_grad = False`` stops the optimizer. It does not stop the update of the running
statistics, because train mode makes it in the forward pass. So a frozen backbone changes from batch
to batch, and in train mode it normalizes by the mini-batch. The same holds for parameters that are
in no group of the optimizer, while others of the model are; without a watched loop this is a note,
because a second optimizer may have them. A teacher whose weights follow those of its student is not
frozen: a watched loop shows that they change. Without one it is a note where a part like it learns,
or where nothing of the model does, as in a discriminator while its generator learns.
"""

from collections.abc import Iterator

import torch
from torch import nn

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
    learning = _learning(case)
    found = [
        norm
        for norm in case.norms.values()
        if _moves(norm) and _is_fixed(norm, learning) and norm.name not in followers
    ]
    stepped = case.record is not None and case.record.steps > 0
    doubt = [] if stepped else [norm for norm in found if _may_follow(case.model, norm)]
    for moving, severity in (([n for n in found if n not in doubt], None), (doubt, "note")):
        if not moving:
            continue
        updates = max(_updates(case, norm) for norm in moving)
        message = (
            f"{counted(len(moving), 'norm')} without a parameter that learns would update the "
            "running statistics in each forward pass"
            + (f", and did so {updates} times in the watched loop." if updates else ".")
        )
        names = [norm.name for norm in moving]
        yield hit(names, message, severity=severity, norms=len(moving), updates=updates)


def _moves(norm: Norm) -> bool:
    return norm.tracks and norm.uses_batch and norm.momentum != 0


def _learning(case: Case) -> set[nn.Parameter]:
    """Return the parameters with gradients that are in the optimizer, if it has any of them."""
    learning = {p for p in case.model.parameters() if p.requires_grad}
    if "optimizer" not in case.has:
        return learning
    stepped = {p for group in case.optimizer.param_groups for p in group["params"]}
    return learning & stepped or learning


def _is_fixed(norm: Norm, learning: set[nn.Parameter]) -> bool:
    own = set(norm.module.parameters())
    return bool(own) and not own & learning


def _may_follow(model: nn.Module, norm: Norm) -> bool:
    """Whether the weights may change though they have no gradients of their own.

    That is where the norm is in no group of an optimizer, where nothing of the model has gradients,
    or where the largest part around it without gradients is made like one that has them.
    """
    if any(p.requires_grad for p in norm.module.parameters()):
        return True
    names = norm.name.split(".")
    around = [model.get_submodule(".".join(names[:depth])) for depth in range(len(names))]
    still = next((part for part in around if not _has_gradients(part)), None)
    twins = (part for part in model.modules() if still is not None and _is_like(part, still))
    return still is model or any(_has_gradients(part) for part in twins)


def _has_gradients(part: nn.Module) -> bool:
    return any(p.requires_grad for p in part.parameters())


def _is_like(one: nn.Module, other: nn.Module) -> bool:
    return type(one) is type(other) and _shapes(one) == _shapes(other)


def _shapes(part: nn.Module) -> list[torch.Size]:
    return [p.shape for p in part.parameters()]


def _updates(case: Case, norm: Norm) -> int:
    seen = case.record.norms.get(norm.name) if case.record else None
    if seen is None:
        return 0
    before, after = seen.updates
    return seen.modes["train"] if before is None or after is None else after - before
