"""The input of a norm lies so far from zero that its variance is lost in rounding.

A float holds a number to a relative precision: bfloat16 rounds values around a mean of 128 standard
deviations to whole standard deviations, and float32 those around 10 million. In an implementation
that computes E[x^2] - E[x]^2 (the default of some frameworks, and what exported graphs may do) the
error grows with the square of the distance, so there a mean of about 900 standard deviations is
already too far in float32.
"""

from collections.abc import Iterator

import torch

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = "subtract the mean where the values come from: standardize the inputs, drop large constants"
CHAPTER = "forward_pass"

ROUNDING = 0.1
"""Relative error of the variance, from the difference of squares in float32 or from the rounding of
the values themselves, whichever comes first: as large as the noise of a mini-batch of 200 values,
sqrt(2 / 199)."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with such a channel, the farthest first, in one hit."""
    ratios: dict[str, float] = {}
    limits: dict[str, float] = {}
    for name, calls in case.forward(training=True).calls.items():
        for call in calls:
            seen = call.var > (case.norms[name].eps or 0.0)  # constant channels are no matter here
            ratio = (call.mean.abs() / call.var.sqrt())[seen]
            ratios[name] = max(float(ratio.amax()) if seen.any() else 0.0, ratios.get(name, 0.0))
            limits[name] = _limit(call.dtype)
    far = sorted((n for n in ratios if ratios[n] > limits[n]), key=lambda name: -ratios[name])
    if far:
        message = (
            f"The mean of a channel is {ratios[far[0]]:.3g} standard deviations from zero; from "
            f"{limits[far[0]]:.3g} on, rounding may change the variance by {ROUNDING:.0%}."
        )
        yield hit(far, message, deviations=ratios[far[0]], limit=limits[far[0]])


def _limit(dtype: torch.dtype) -> float:
    """Return at how many standard deviations from zero the variance is off by `ROUNDING`.

    Rounding to multiples of a step adds step^2 / 12 to the variance; the difference of squares is
    off by a rounding unit of the square of the mean.
    """
    by_step = (12 * ROUNDING) ** 0.5 / torch.finfo(dtype).eps
    return min(by_step, (ROUNDING / torch.finfo(torch.float32).eps) ** 0.5)
