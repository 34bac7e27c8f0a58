"""The running statistics are those of initialization, though the model is trained.

Eval mode then subtracts 0 and divides by 1. The parameters were copied or loaded without the
buffers (a target network or an average made from ``parameters()``, ``strict=False``), or the norm
was in eval mode during all of the training. A norm counts as trained if both its scales and its
shifts differ among the channels, because initialization makes all scales equal, or all shifts. A
norm without them is named if one of the others is. A new head on a trained backbone is healthy,
because its own scales and shifts are still the initial ones.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.doctor.norms import has_learned, is_initial

SEVERITY = "warning"
NEEDS = ("state",)
FIX = (
    "copy the whole state dict, buffers included; or `bnlib.surgery.recalibrate(model, "
    "loader)` on training data"
)
CHAPTER = "debugging"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with initial statistics in a model that is trained, in one hit."""
    initial = [norm for norm in case.norms.values() if is_initial(norm)]
    learned = [norm.name for norm in initial if has_learned(norm)]
    if learned:
        names = [
            norm.name
            for norm in initial
            if norm.name in learned or not norm.tensors.keys() & {"weight", "bias"}
        ]
        message = (
            f"The running statistics of {counted(len(names), 'norm')} are 0 and 1; the scales and "
            f"shifts of {len(learned)} of them have been learned."
        )
        yield hit(names, message, norms=len(names), of=len(case.norms), learned=len(learned))
