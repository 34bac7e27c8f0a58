"""Two copies of a network have the same weights, but not the same running statistics.

A target network or a teacher that is updated from ``network.parameters()`` gets the weights and not
the buffers, so in eval mode it is another function than the network that it should follow. It is
seen where both are parts of the model that is examined. Norms that have counted equally many
mini-batches are left out, because each of them has collected statistics of its own, as in the
blocks of an encoder that start as copies.
"""

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor, nn

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.norms import LEAST_EPS, Norm, norms_of

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = (
    "wherever the parameters are copied, copy the buffers, too: `network, target = "
    "map(model.get_submodule, finding.where)`, or in the other order, then `for old, new in "
    "zip(target.buffers(), network.buffers()): old.copy_(new)`"
)
CHAPTER = "debugging"

GAP = 0.5
"""Between the running means, in running standard deviations, in half of the channels of some norm:
as much as `shifted_input` takes for other data."""

NEAR = 0.1
"""Relative distance of the weights: a target that follows slowly stays as near as this."""


def check(case: Case) -> Iterator[Hit]:
    """Yield each pair of copies with other statistics."""
    alike: dict[tuple, list[tuple[str, nn.Module]]] = {}
    for name, part in case.model.named_modules():
        if name and name not in case.norms and norms_of(part):
            shapes = tuple(p.shape for p in _weights(part))
            alike.setdefault((type(part), shapes), []).append((name, part))
    told: list[str] = []
    for (one, a), (two, b) in (pair for those in alike.values() for pair in combinations(those, 2)):
        inside = any(_within(name, each) for name in told for each in (one, two))
        if inside or _within(one, two) or _within(two, one):
            continue
        distance = _distance(_weights(a), _weights(b))
        apart = _gap(norms_of(a), norms_of(b)) if distance <= NEAR else 0.0
        if apart > GAP:
            told += [one, two]
            message = (
                f"{one} and {two} have the same weights, to {distance:.2g}, but running means "
                f"{apart:.2g} standard deviations apart."
            )
            yield hit((one, two), message, gap=apart, distance=distance)


def _within(outer: str, inner: str) -> bool:
    return f"{inner}.".startswith(f"{outer}.")


def _weights(part: nn.Module) -> list[Tensor]:
    return [p.detach() for p in part.parameters() if p.dim() > 1]


def _distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Return the relative distance of the weights; inf if there are none."""
    if not ours or torch.dist(ours[0], theirs[0]) > 3 * NEAR * ours[0].norm():
        return float("inf")  # the first one is a quick look, as most pairs differ
    difference = sum(float(torch.dist(p, q)) ** 2 for p, q in zip(ours, theirs, strict=True))
    size = sum(float(p.norm()) ** 2 for p in ours)
    return float((difference / size) ** 0.5) if size else float("inf")


def _gap(ours: dict[str, Norm], theirs: dict[str, Norm]) -> float:
    """Return how far the running means lie apart in the worst norm, the median over channels."""
    gaps = [0.0]
    for name in ours.keys() & theirs.keys():
        a, b = ours[name], theirs[name]
        own = a.updates is not None and a.updates == b.updates
        if own or a.mean is None or b.mean is None or a.var is None or a.mean.shape != b.mean.shape:
            continue
        shift = (a.mean - b.mean).double().abs() / (a.var.double() + LEAST_EPS).sqrt()
        gaps.append(float(shift.median()))
    return max(gaps)
