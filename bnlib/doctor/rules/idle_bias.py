"""A bias does nothing in train mode, because the norm behind it subtracts it with the mean.

It costs memory and time, and weight decay or rounding may move it. It is found by its gradient,
which is zero in train mode, although gradients do arrive at the output that the bias is added to,
and which is not zero once the statistics of the norms are fixed. So neither the order nor the names
of modules matter. The shift of a norm before another norm is left out, since it comes with a scale.
"""

import math
from collections.abc import Iterator

from bnlib.doctor.case import Case, Gradients
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.surgery._family import NORMS

SEVERITY = "note"
NEEDS = ("structure", "backward")
FIX = (
    "bias=False in the layer before a norm; once trained, `model, _ = "
    "bnlib.surgery.remove_redundant_bias(model)`"
)
CHAPTER = "backward_pass"

IDLE = 1e-6
"""Of the sum of absolute gradients. In float64 an idle bias has below 1e-10, and one that learns
has 1e-3 and more even where a million gradients of random sign add up."""

ROUNDING = 100
"""Rounding units that count as zero, for a model that runs in float32 only."""


def check(case: Case) -> Iterator[Hit]:
    """Yield all idle biases in one hit, as there are none or many."""
    train, test = case.backward[True], case.backward[False]
    names, largest = [], 0.0
    for name, gradient in train.parameters.items():
        module = name.rpartition(".")[0]
        is_vector = gradient.numel() == max(gradient.shape, default=1)
        if not is_vector or isinstance(case.model.get_submodule(module), NORMS):
            continue
        idle, otherwise = _relative(train, name, module), _relative(test, name, module)
        if idle <= max(IDLE, ROUNDING * train.eps) < otherwise < math.inf:
            names.append(module)
            largest = max(largest, idle)
    if names:
        message = (
            f"The gradient of {counted(len(names), 'bias vector')} is zero in train mode, but for "
            "rounding."
        )
        yield hit(names, message, biases=len(names), largest_relative_gradient=largest)


def _relative(gradients: Gradients, name: str, module: str) -> float:
    """Return a bias's gradient relative to the absolute values that it adds up, per channel."""
    gradient, arrived = gradients.parameters.get(name), gradients.arriving.get(module, 0.0)
    if gradient is None or not arrived:
        return math.inf
    return float(gradient.abs().max()) * gradient.numel() / arrived
