"""Two copies of a network have the same weights, but not the same running statistics.

A target network or a teacher that is updated from ``network.parameters()`` gets the weights and not
the buffers, so in eval mode it is another function than the network that it should follow. It is
seen where both are parts of the model that is examined.
"""

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import nn

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.norms import norms_of

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = "target.load_state_dict(network.state_dict()), or copy the buffers beside the parameters"
CHAPTER = "debugging"

GAP = 0.5
"""Of a standard deviation, in half of the channels of some norm."""

NEAR = 0.1
"""Relative distance of the weights: a target that follows slowly is that near."""


def check(case: Case) -> Iterator[Hit]:
    """Yield each pair of copies with other statistics."""
    parts = [
        (name, part)
        for name, part in case.model.named_modules()
        if name and name not in case.norms and norms_of(part)
    ]
    told: list[str] = []
    for (one, a), (two, b) in combinations(parts, 2):
        inside = any(_within(name, each) for name in told for each in (one, two))
        if inside or type(a) is not type(b) or _within(one, two) or _within(two, one):
            continue
        apart = _gap(a, b) if _distance(a, b) <= NEAR else 0.0
        if apart > GAP:
            told += [one, two]
            message = (
                f"{one} and {two} have the same weights, to {_distance(a, b):.2g}, but running "
                f"statistics {apart:.2g} standard deviations apart."
            )
            yield hit((one, two), message, gap=apart, distance=_distance(a, b))


def _within(outer: str, inner: str) -> bool:
    return f"{inner}.".startswith(f"{outer}.")


def _distance(a: nn.Module, b: nn.Module) -> float:
    """Return the relative distance of the weights; inf if there are none, or of other shapes."""
    ours, theirs = ([p.double() for p in m.parameters() if p.dim() > 1] for m in (a, b))
    if not ours or [p.shape for p in ours] != [p.shape for p in theirs]:
        return float("inf")
    if torch.dist(ours[0], theirs[0]) > 3 * NEAR * ours[0].norm():
        return float("inf")  # a quick look, as most pairs differ
    difference = sum(float(torch.dist(p, q)) ** 2 for p, q in zip(ours, theirs, strict=True))
    size = sum(float(p.norm()) ** 2 for p in ours)
    return (difference / size) ** 0.5 if size else float("inf")


def _gap(a: nn.Module, b: nn.Module) -> float:
    """Return how far the running means lie apart in the worst norm, the median over channels."""
    gaps = [0.0]
    for ours, theirs in zip(norms_of(a).values(), norms_of(b).values(), strict=True):
        if ours.mean is not None and theirs.mean is not None and ours.var is not None:
            shift = (ours.mean - theirs.mean).double().abs() / (ours.var.double() + 1e-12).sqrt()
            gaps.append(float(shift.median()))
    return max(gaps)
