"""The input of a channel is almost constant, so the norm gives little more than its shift.

A ReLU whose units never fire, a weight that decayed to zero or an unused input leave a variance far
below eps. The channel learns almost nothing, and in eval mode its input is divided by sqrt(eps), so
a first deviation from the constant is made 300 times as large at the usual eps of 1e-5.
"""

from collections.abc import Iterator

import torch

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.doctor.norms import LEAST_EPS, arrived, left_of_initial

SEVERITY = "note"
NEEDS = ("state",)
FIX = "a smaller learning rate or a leaky activation function before it; or take the channels out"
CHAPTER = "forward_pass"

BELOW_EPS = 0.01
"""Variance relative to eps: at a hundredth, the standard deviation of the output is a tenth."""

MANY = 0.5
"""Share of a norm's channels above which it is a warning: the layer before it is cut off."""

CONSTANT = 1e-7
"""Factor below that limit at which a channel counts for the warning, if there are mini-batches; so
its variance is below 1e-14 at the usual eps. The layer scale of a new network leaves 1e-10 to
1e-12, which is no fault, because training raises it."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with such channels, the one with the largest share first, in one hit."""
    shares, channels, cut_off = {}, 0, False
    calls = case.forward(training=True).calls if case.batches else {}
    for norm in case.norms.values():
        limit = BELOW_EPS * max(norm.eps or 0.0, LEAST_EPS)
        if norm.name in calls:
            var = torch.stack([call.var for call in calls[norm.name]]).amax(0)
            constant = var < CONSTANT * limit
            if arrived(norm) and norm.var is not None and norm.family == "batch":
                known = norm.var.to(var) - left_of_initial(norm)
                var = var.maximum(known)  # a rare value may not be in the mini-batches
        elif norm.var is not None:
            var, constant = norm.var, norm.var < limit
        else:
            continue
        dead = (var >= 0) & (var < limit)  # a negative one is of `negative_variance`
        if dead.any():
            shares[norm.name] = float(dead.double().mean())
            channels += int(dead.sum())
            cut_off |= float((dead & constant).double().mean()) > MANY
    names = sorted(shares, key=lambda name: -shares[name])
    if names:
        worst = shares[names[0]]
        message = (
            f"{counted(channels, 'channel')} in {counted(len(names), 'norm')} with a variance "
            f"below {BELOW_EPS:g} eps; in {names[0] or 'the model'} {worst:.0%} of all."
        )
        severity = "warning" if cut_off else None
        yield hit(names, message, severity=severity, channels=channels, share=worst)
