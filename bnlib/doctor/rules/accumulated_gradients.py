"""Gradients are accumulated, but each mean is still taken over one small part.

Accumulating k mini-batches before a step gives the gradient of a k times larger one, except through
batch norm, because its statistics are those of each part. So they are as noisy as those of a small
part, and the running averages move k times per step. Steps are left out in which gradients were
cleared between two backward passes, or a further forward pass was made, because a discriminator has
such steps while its generator learns.
"""

import re
from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "warning"
NEEDS = ("structure", "watch")
FIX = (
    "larger mini-batches in place of accumulation, or `model = bnlib.surgery.replace(model, "
    "bnlib.surgery.group_norm())`; a momentum of 1 - (1 - momentum) ** (1 / k) for k "
    "mini-batches per step mends only the running averages"
)
CHAPTER = "beyond_one_machine"

FEW = 32
"""Values per mean: with fewer the relative error of the variance, sqrt(2 / (values - 1)), is above
a quarter, so the parts are too small for the statistics."""

SHARE = 0.5
"""Share of the steps that have to accumulate; not all, because the last step of an epoch may have
one part only."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with few values per mean in a loop that accumulates, in one hit."""
    record = case.record
    assert record is not None
    record.require(steps=True)
    trains = {pattern: re.sub("[ne]", "", pattern) for pattern in record.patterns}
    parts = {pattern: pattern.count("fb") for pattern in record.patterns}
    plain = {p for p in parts if parts[p] > 1 and re.fullmatch("(fb)+f?s?", trains[p])}
    steps = {p: record.patterns[p] for p in plain}
    if not steps or sum(steps.values()) < SHARE * record.steps:
        return
    k = parts[max(steps, key=lambda pattern: steps[pattern])]
    values = {
        name: seen.values.most_common(1)[0][0]
        for name, seen in record.norms.items()
        if seen.values and not seen.again  # the same mini-batch again is of `updated_twice`
    }
    few = sorted((n for n in values if values[n] < FEW), key=lambda name: values[name])
    if few:
        message = (
            f"A step adds up the gradients of {k} mini-batches, but a mean is taken over "
            f"{values[few[0]]} values, not over {k * values[few[0]]}."
        )
        yield hit(few, message, parts=k, values=values[few[0]])
