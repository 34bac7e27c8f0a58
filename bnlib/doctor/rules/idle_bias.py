"""A bias does nothing in train mode, as the norm behind it takes it off again with the mean.

It costs memory and time, and weight decay or a noisy gradient may move it. It is found by its
gradient, which is zero in train mode up to rounding, while what arrives at the output that it is
added to is not, and which is not zero in eval mode. So neither the order of modules nor their
names matter.
"""

import math
from collections.abc import Iterator

from bnlib.doctor.case import Case, Gradients
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
        idle, otherwise = _relative(train, name, module), _relative(test, name, module)
        if idle <= ROUNDING * train.eps < otherwise < math.inf:
            names.append(module)
            largest = max(largest, idle)
    if names:
        message = (
            f"{len(names)} biases have no gradient in train mode: at most {largest:.1g} of the sum "
            "of absolute values that it adds up."
        )
        yield hit(names, message, biases=len(names), largest_relative_gradient=largest)


def _relative(gradients: Gradients, name: str, module: str) -> float:
    """Return a bias's gradient relative to the absolute values that it adds up, per channel."""
    gradient, arrived = gradients.parameters.get(name), gradients.arriving.get(module, 0.0)
    if gradient is None or not arrived:
        return math.inf
    return float(gradient.abs().max()) * gradient.numel() / arrived
