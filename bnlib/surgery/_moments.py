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
        Number of values a channel: examples times positions, without those that are masked.
    mean, var : Tensor
        Of each channel, (d,), in float64; the divisor of `var` is `count` or ``count - 1``. For a
        decorrelated batch norm, `var` is the covariance (d / s, s, s) of each group of s channels.
    """

    examples: int
    count: int
    mean: Tensor
    var: Tensor


class Moments:
    """Running count, mean and sums of products of deviations, in float64.

    :cite:t:`chan1983algorithms`: for the batches A and B with delta = mean_B - mean_A

        mean = mean_A + delta n_B / n,   M2 = M2_A + M2_B + delta^2 n_A n_B / n,   n = n_A + n_B,

    the law of total variance. No difference of large numbers occurs, unlike in E[x^2] - E[x]^2.
    The same holds for a covariance, with the outer product of delta with itself for its square: M2
    is (d / s, s, s) for groups of s channels, and for a variance the groups are single channels.
    """

    def __init__(self, num_features: int, device: torch.device, group_size: int = 1) -> None:
        self.examples = 0
        self.count = 0
        options = {"dtype": torch.float64, "device": device}
        self.mean = torch.zeros(num_features, **options)
        self.m2 = torch.zeros(num_features // group_size, group_size, group_size, **options)

    def add(self, values: Tensor, examples: int) -> tuple[int, Tensor, Tensor]:
        """Merge the values (d, count) of so many examples; return count, mean and biased M2."""
        values = values.detach().double()
        count = values.shape[1]
        mean = values.mean(1)
        deviations = (values - mean[:, None]).view(*self.m2.shape[:2], count)
        m2 = deviations @ deviations.mT
        self.examples += examples
        self.merge(count, mean, m2)
        return count, mean, m2 / count

    def merge(self, count: int, mean: Tensor, m2: Tensor) -> None:
        """Merge the moments of further values."""
        total = self.count + count
        delta = mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.m2 = self.m2 + m2 + self._products(delta) * (self.count * count / total)
        self.count = total

    def _products(self, delta: Tensor) -> Tensor:
        """Return the products (d / s, s, s) of the deviations (d,) of channels of one group."""
        delta = delta.view(self.m2.shape[:2])
        return delta[:, :, None] * delta[:, None, :]

    def pooled(self, unbiased: bool, shape: torch.Size) -> PooledStatistics:
        """Return the statistics with the divisor ``count - 1`` or `count`, `var` in a `shape`."""
        var = self.m2 / (self.count - 1 if unbiased else self.count)
        return PooledStatistics(self.examples, self.count, self.mean, var.view(shape))


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
        [
            (m.m2 + m.count * m._products(m.mean - mean)).flatten()
            for m, mean in zip(moments, means, strict=True)
        ]
    )
    dist.all_reduce(m2, group=group)
    parts = m2.split([m.m2.numel() for m in moments])
    for m, total, mean, part in zip(moments, totals, means, parts, strict=True):
        m.examples, m.count = int(total[0]), int(total[1])
        m.mean, m.m2 = mean, part.view_as(m.m2)
