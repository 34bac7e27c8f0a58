"""A bias does nothing in train mode, as the norm behind it takes it off again with the mean.

It costs memory and time, and weight decay or a noisy gradient may move it. It is found by its
gradient, which is zero in train mode up to rounding, while what arrives at the output that it is
added to is not, and which is not zero in eval mode. So neither the order of modules nor their
names matter.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "note"
NEEDS = ("structure", "backward")
FIX = "bias=False in the layer before a norm; surgery.remove_redundant_bias takes it out exactly"
CHAPTER = "backward_pass"

ROUNDING = 1e4
"""Rounding units that a sum of gradients may be off from zero, relative to its absolute values.
In float64 that is 2e-12; gradients of biases that do learn are above 1e-6."""


def check(case: Case) -> Iterator[Hit]:
    """Yield all idle biases in one hit, as there are none or many."""
    train, test = case.backward[True], case.backward[False]
    names, largest = [], 0.0
    for name, gradient in train.parameters.items():
        module, _, last = name.rpartition(".")
        if gradient.dim() != 1 or "bias" not in last or module in case.norms:
            continue
        ratios = []
        for each in (train, test):
            arrived = each.arriving.get(module, 0.0) / gradient.numel()
            ratios.append(float(each.parameters[name].abs().max()) / arrived if arrived else None)
        if None in ratios:
            continue
        limit = ROUNDING * train.eps
        if ratios[0] <= limit < ratios[1]:
            names.append(module)
            largest = max(largest, ratios[0])
    if names:
        message = (
            f"{len(names)} biases have no gradient in train mode: at most {largest:.1g} of the sum "
            "of absolute values that it adds up."
        )
        yield hit(names, message, biases=len(names), largest_relative_gradient=largest)
