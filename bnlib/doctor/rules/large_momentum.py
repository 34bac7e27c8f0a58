"""The running statistics keep little but the last mini-batch.

PyTorch's momentum is the weight of the new value, but that of Keras and Flax is the weight of the
old one, so their 0.99 is PyTorch's 0.01. If the number is copied as it is, the running mean and
variance are almost those of the last mini-batch, so eval mode has the noise of one mini-batch.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = (
    "`for name in finding.where: model.get_submodule(name).momentum = 1 - "
    "finding.evidence['momentum']` if the number is from Keras or Flax, then "
    "`bnlib.surgery.recalibrate(model, loader)`"
)
CHAPTER = "debugging"

LARGEST = 0.5
"""Above it the last mini-batch weighs more than all the others together."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with a larger momentum, one hit for each momentum."""
    found: dict[float, list[str]] = {}
    for norm in case.norms.values():
        if norm.tracks and norm.momentum is not None and norm.momentum > LARGEST:
            found.setdefault(norm.momentum, []).append(norm.name)
    for momentum, names in found.items():
        message = f"The momentum is {momentum:g}: the last mini-batch has this weight in the mean."
        fix = FIX.replace("1 - finding.evidence['momentum']", "0.1") if momentum == 1 else None
        yield hit(names, message, fix=fix, momentum=momentum)
