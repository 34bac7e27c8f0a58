"""Weight decay pulls the scales and shifts of norms towards zero.

On a weight before a norm, weight decay only sets the effective learning rate. But on the scale of
the norm it shrinks the function, and a scale near zero cuts its channel off. So the common recipe
leaves scales, shifts and biases out. The effect is often small, so this is a note.
"""

from collections.abc import Iterator

import torch
from torch import nn

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.surgery._family import NORMS

SEVERITY = "note"
NEEDS = ("structure", "optimizer")
FIX = (
    "`optimizer = torch.optim.SGD(bnlib.surgery.parameter_groups(model, "
    "weight_decay=finding.evidence['weight_decay']), lr=0.1)`, with the other options as "
    "before"
)
CHAPTER = "fine_tuning_and_freezing"


def check(case: Case) -> Iterator[Hit]:
    """Yield all norms with a decayed parameter in one hit."""
    decays = {
        id(parameter): group.get("weight_decay", 0)
        for group in case.optimizer.param_groups
        for parameter in group["params"]
    }
    found: dict[str, float] = {}
    for name, module in case.model.named_modules():
        if name in case.norms or isinstance(module, NORMS):
            own = [decays.get(id(p), 0) for p in _learned(module)]
            if max(own, default=0) > 0:
                found[name] = float(max(own))
    if found:
        largest = max(found.values())
        message = f"The weight decay of {counted(len(found), 'norm')} is up to {largest:g}."
        fix = _fix(case.optimizer)
        yield hit(found, message, fix=fix, norms=len(found), weight_decay=largest)


def _fix(optimizer: torch.optim.Optimizer) -> str:
    """Return the fix with the class and the rate of an optimizer of torch."""
    name, rate = type(optimizer).__name__, float(optimizer.param_groups[0].get("lr", 0.1))
    if getattr(torch.optim, name, None) is not type(optimizer):
        return FIX
    return FIX.replace("SGD", name).replace("lr=0.1", f"lr={rate:g}")


def _learned(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters(recurse=False) if p.requires_grad]
