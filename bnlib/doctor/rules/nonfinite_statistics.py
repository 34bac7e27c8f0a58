"""A norm holds a NaN or an infinity, which stays.

One mini-batch with a NaN, or with values whose square overflows, sets the running statistics to NaN
or infinity for good, because each new value is mixed with the old one. Training goes on without a
sign of it, since train mode does not read them, but eval mode no longer gives a prediction. A scale
or shift that is not finite comes from a step of the optimizer and spoils train mode, too; new
statistics do not mend it.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "error"
NEEDS = ("state",)
FIX = (
    "`bnlib.surgery.recalibrate(model, loader)` on clean data; for a weight or bias an "
    "earlier checkpoint; the norms of bnlib.nn, built with refuse_nonfinite=True, raise at "
    "the mini-batch that does it"
)
CHAPTER = "debugging"


def check(case: Case) -> Iterator[Hit]:
    """Yield each norm with a parameter or buffer that is not finite."""
    for norm in case.norms.values():
        for key, value in norm.tensors.items():
            bad = int((~value.isfinite()).sum())
            if bad:
                message = f"{bad} of the {value.numel()} values of its {key} are NaN or infinite."
                yield hit(norm.name, message, nonfinite=bad, values=value.numel(), tensor=key)
