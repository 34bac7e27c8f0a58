"""The running statistics are those of initialization, though the model is trained.

Eval mode then subtracts 0 and divides by 1. The parameters were copied or loaded without the
buffers (a target network or an average made from ``parameters()``, ``strict=False``), or the norm
was in eval mode, or was never called, during all of the training. That a model is trained is seen
from its scales and shifts, which start as constants, or from the other norms' statistics.
"""

from collections.abc import Iterator

from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.doctor.norms import Norm

SEVERITY = "warning"
NEEDS = ("state",)
FIX = (
    "copy the whole state dict, buffers included; else surgery.recalibrate(model, loader) on "
    "training data"
)
CHAPTER = "debugging"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with initial statistics in a model that is trained, in one hit."""
    norms = [n for n in case.norms.values() if n.mean is not None and n.var is not None]
    initial = [n.name for n in norms if _is_initial(n)]
    learned = [n.name for n in norms if _has_learned(n)]
    elsewhere = len(norms) - len(initial)
    if initial and (learned or elsewhere):
        message = (
            f"The running statistics of {counted(len(initial), 'norm')} are 0 and 1; "
            f"{counted(len(learned), 'norm')} of {len(norms)} have learned scales or shifts."
        )
        yield hit(initial, message, norms=len(initial), of=len(norms), learned=len(learned))


def _is_initial(norm: Norm) -> bool:
    """Whether the statistics are exactly 0 and 1, which no data leave behind."""
    return _all(norm.mean, 0.0) and _all(norm.var, 1.0)


def _all(values: Tensor | None, value: float) -> bool:
    return values is not None and bool((values == value).all())


def _has_learned(norm: Norm) -> bool:
    """Whether scales or shifts differ among the channels; initialization makes them equal."""
    affine = (norm.tensors.get("weight"), norm.tensors.get("bias"))
    return any(p is not None and p.numel() > 1 and bool((p != p[0]).any()) for p in affine)
