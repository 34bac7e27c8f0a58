"""How far the running statistics of a norm are from those of data."""

from __future__ import annotations

import torch
from torch import Tensor

from bnlib.doctor.norms import Norm
from bnlib.doctor.observe import Call

NOISE = 2.5
"""Means over n examples are off by about 1 / sqrt(n), and half of the channels of a norm seldom by
more than one of these at once; so many may be chance, also of running means of as many examples."""


def own_examples(calls: list[Call]) -> int:
    """Return how many examples reached a norm; those of two calls in a mini-batch are the same."""
    return sum({call.batch: call.shape[0] for call in calls}.values())


def in_every_batch(calls: list[Call], batches: int) -> bool:
    """Whether a norm was called in each mini-batch: layers that are skipped at random are not."""
    return len({call.batch for call in calls}) == batches


def pooled(calls: list[Call]) -> tuple[Tensor, Tensor]:
    """Return mean and variance over calls of the same size: that within them, and between them."""
    means = torch.stack([call.mean for call in calls])
    var = torch.stack([call.var for call in calls]).mean(0) + means.var(0, correction=0)
    return means.mean(0), var


def gap(norm: Norm, calls: list[Call]) -> float:
    """Return how far apart the outputs of train and eval mode are, in standard deviations.

    It is the root mean square of the difference of the two standardized outputs of a channel, and
    of the channels the median; 0 for a norm without running statistics.
    """
    if norm.mean is None or norm.var is None:
        return 0.0
    mean, var = pooled(calls)
    eps = norm.eps or 0.0
    spread = (norm.var.double() + eps).sqrt()
    shift = (mean - norm.mean.double()) / spread
    scale = 1 - (var + eps).sqrt() / spread
    return float((shift**2 + scale**2).sqrt().median())
