"""Count, mean and variance of each channel over a stream of batches, merged exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class PooledStatistics(NamedTuple):
    """Statistics of one layer's input over all of the data.

    Attributes
    ----------
    examples : int
        Number of examples.
    count : int
        Number of values a channel: examples times positions.
    mean, var : Tensor
        Of each channel, (d,), in float64; the divisor of `var` is `count` or ``count - 1``.
    """

    examples: int
    count: int
    mean: Tensor
    var: Tensor


class Moments:
    """Running count, mean and sum of squared deviations, (d,) in float64.

    :cite:t:`chan1983algorithms`: for the batches A and B with delta = mean_B - mean_A

        mean = mean_A + delta n_B / n,   M2 = M2_A + M2_B + delta^2 n_A n_B / n,   n = n_A + n_B,

    the law of total variance. No difference of large numbers occurs, unlike in E[x^2] - E[x]^2.
    """

    def __init__(self, num_features: int, device: torch.device) -> None:
        self.examples = 0
        self.count = 0
        self.mean = torch.zeros(num_features, dtype=torch.float64, device=device)
        self.m2 = torch.zeros_like(self.mean)

    def add(self, x: Tensor) -> tuple[int, Tensor, Tensor]:
        """Merge a batch (m, d, ...); return its own count, mean and biased variance."""
        rows = x.detach().double().transpose(0, 1).flatten(1)  # (d, values)
        count = rows.shape[1]
        mean = rows.mean(1)
        m2 = (rows - mean[:, None]).square().sum(1)
        self.examples += x.shape[0]
        self.merge(count, mean, m2)
        return count, mean, m2 / count

    def merge(self, count: int, mean: Tensor, m2: Tensor) -> None:
        """Merge the moments of further values."""
        total = self.count + count
        delta = mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.m2 = self.m2 + m2 + delta.square() * (self.count * count / total)
        self.count = total

    def pooled(self, unbiased: bool) -> PooledStatistics:
        """Return the statistics with the divisor ``count - 1`` or `count`."""
        var = self.m2 / (self.count - 1 if unbiased else self.count)
        return PooledStatistics(self.examples, self.count, self.mean, var)


def merge_over_processes(moments: Sequence[Moments], group: Any = None) -> None:
    """Replace the moments, in place, by those of the data of all processes, by two all-reduces."""
    if not moments:
        return
    device = moments[0].mean.device
    numbers = [[m.examples, m.count] for m in moments]
    counts = torch.tensor(numbers, dtype=torch.float64, device=device)  # exact up to 2^53
    sums = torch.cat([m.count * m.mean for m in moments])
    message = torch.cat([counts.flatten(), sums])
    dist.all_reduce(message, group=group)
    totals, sums = message[: counts.numel()].view_as(counts), message[counts.numel() :]
    lengths = [len(m.mean) for m in moments]
    means = [s / max(n.item(), 1) for s, n in zip(sums.split(lengths), totals[:, 1], strict=True)]
    m2 = torch.cat(
        [m.m2 + m.count * (m.mean - mean).square() for m, mean in zip(moments, means, strict=True)]
    )
    dist.all_reduce(m2, group=group)
    for m, total, mean, part in zip(moments, totals, means, m2.split(lengths), strict=True):
        m.examples, m.count = int(total[0]), int(total[1])
        m.mean, m.m2 = mean, part
