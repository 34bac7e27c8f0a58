"""The input of a norm lies so far from zero that its variance is lost in rounding.

A float holds a number to a relative precision, so values around a mean of 1,000 standard deviations
keep only a part of what tells them apart. An implementation that computes E[x^2] - E[x]^2 (the
default of some frameworks, and what exported graphs may do) loses the square of that.
"""

from collections.abc import Iterator

import torch

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = "subtract the mean where the values come from: standardize the inputs, drop large constants"
CHAPTER = "conventions"

ROUNDING = 0.1
"""Relative error of the variance, by the formula of the difference in float32, and by the rounding
of the values themselves: as large as the noise of a mini-batch of 200 values."""

BY_SQUARES = (ROUNDING / torch.finfo(torch.float32).eps) ** 0.5
"""Standard deviations from zero at which the difference of squares in float32 is off by that."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with such a channel, the farthest first, in one hit."""
    ratios: dict[str, float] = {}
    limits: dict[str, float] = {}
    for name, calls in case.forward(training=True).calls.items():
        for call in calls:
            seen = call.var > (case.norms[name].eps or 0.0)  # constant channels are no matter here
            ratio = (call.mean.abs() / call.var.sqrt())[seen]
            ratios[name] = max(float(ratio.amax()) if seen.any() else 0.0, ratios.get(name, 0.0))
            limits[name] = min(ROUNDING / torch.finfo(call.dtype).eps, BY_SQUARES)
    far = sorted((n for n in ratios if ratios[n] > limits[n]), key=lambda name: -ratios[name])
    if far:
        message = (
            f"The mean of a channel is {ratios[far[0]]:.3g} standard deviations from zero; from "
            f"{limits[far[0]]:.3g} on rounding may be {ROUNDING:.0%} of the variance."
        )
        yield hit(far, message, deviations=ratios[far[0]], limit=limits[far[0]])
