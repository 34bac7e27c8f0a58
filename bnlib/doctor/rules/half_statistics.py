"""Running statistics are updated in float16 or bfloat16.

An update adds momentum times a difference. If that is below half a unit in the last place of the
running value, it is rounded away and the average stalls before it arrives: in bfloat16 at a
difference of up to 1 / (256 momentum) of the value, which is 4 % at a momentum of 0.1. In float16 a
variance above 65,504 overflows, too. A model that was cast for inference and is in eval mode does
not update them, so it is healthy.
"""

from collections.abc import Iterator

import torch

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = (
    "`for name in finding.where: model.get_submodule(name).float()` before training "
    "(torch.autocast leaves norms in float32 by itself)"
)
CHAPTER = "questions#q-nan-statistics"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms in train mode with buffers of half precision, one hit for each dtype."""
    found: dict[torch.dtype, list[str]] = {}
    for norm in case.norms.values():
        if (
            norm.mean is not None
            and norm.tracks
            and norm.uses_batch
            and norm.mean.dtype.itemsize < 4
        ):
            found.setdefault(norm.mean.dtype, []).append(norm.name)
    for dtype, names in found.items():
        kind = str(dtype).removeprefix("torch.")
        stall = torch.finfo(dtype).eps / 2
        message = (
            f"{counted(len(names), 'norm')} in train mode with running statistics in {kind}: an "
            f"update below {stall:.1%} of the value may be rounded away."
        )
        yield hit(names, message, norms=len(names), dtype=kind, stall=stall)
