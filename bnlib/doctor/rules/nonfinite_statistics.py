"""A norm holds a NaN or an infinity, which stays.

One mini-batch with a NaN, or with values whose square overflows, sets the running statistics to NaN
or infinity for good, because each new value is mixed with the old one. Training goes on without a
sign of it, since train mode does not read them, but eval mode no longer gives a prediction. A scale
or shift that is not finite comes from a step of the optimizer and spoils train mode, too; new
statistics do not mend it.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "error"
NEEDS = ("state",)
FIX = (
    "`bnlib.surgery.recalibrate(model, loader)` on clean data; for a weight or bias an "
    "earlier checkpoint; the norms of bnlib.nn, built with refuse_nonfinite=True, raise at "
    "the mini-batch that does it"
)
CHAPTER = "debugging"

PARAMETERS = ("weight", "bias")


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with statistics that are not finite, and those with parameters, in a hit."""
    found: dict[bool, dict[str, int]] = {False: {}, True: {}}
    for norm in case.norms.values():
        for key, value in norm.tensors.items():
            bad, own = int((~value.isfinite()).sum()), found[key in PARAMETERS]
            if bad:
                own[norm.name] = own.get(norm.name, 0) + bad
    for is_parameter, count in found.items():
        if count:
            what = "scales or shifts" if is_parameter else "running statistics"
            values = sum(count.values())
            message = (
                f"NaN or infinite: {counted(values, 'value')} of the {what} of "
                f"{counted(len(count), 'norm')}."
            )
            yield hit(count, message, nonfinite=values, norms=len(count), parameters=is_parameter)
