"""Batch-norm kernels out of torch operations, in an order that spares the memory.

Used where Numba is not installed. All take dense tensors (see `_layout`), compute statistics
and sums per channel that come out in float64, and know nothing of autograd.
"""

import torch
from torch import Tensor

from bnlib.nn import _layout

BLOCK = 2**18  # elements: a block and a temporary of its size stay in a core's cache
LARGE = 2  # standard deviations: a mean further from 0 is corrected for what rounding left in it


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel, float64 (c,)."""
    v = _layout.view(x)
    count = x.numel() // x.shape[1]
    mean = _sum(v) / count
    near = mean.to(x.dtype)
    square = _squares(v, near) / count
    if bool((mean * mean <= LARGE**2 * square).all()):
        return mean, square - (mean - near) ** 2
    left = torch.zeros_like(mean)
    for part in _blocks(v):
        left += _sum(part - _spread(near, part))
    left /= count
    return near + left, (square - left**2).clamp_(min=0)


def apply(x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return (x - mean) * scale + shift; the three are float64 (c,)."""
    y = torch.empty_like(x)
    near = mean.to(x.dtype)
    shift = (shift - (mean - near) * scale).to(x.dtype)
    v, scale = _layout.view(x), scale.to(x.dtype)
    for part, out in zip(_blocks(v), _blocks(_layout.view(y)), strict=True):
        torch.sub(part, _spread(near, part), out=out)
        out.mul_(_spread(scale, part)).add_(_spread(shift, part))
    return y


def gradient_sums(dy: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """Return the sums of dy and of dy * (x - mean), float64 (2, c)."""
    near = mean.to(x.dtype)
    sums = torch.zeros(2, x.shape[1], dtype=torch.float64)
    dv, v = _layout.view(dy), _layout.view(x)
    for upstream, part in zip(_blocks(dv), _blocks(v), strict=True):
        sums[0] += _sum(upstream)
        sums[1] += _sum((part - _spread(near, part)).mul_(upstream))
    sums[1] -= (mean - near) * sums[0]
    return sums


def gradient_input(dy: Tensor, x: Tensor, mean: Tensor, coefficients: Tensor) -> Tensor:
    """Return a * dy + b * (x - mean) + c0 for `coefficients` a, b, c0, float64 (3, c)."""
    dx = torch.empty_like(x)
    near = mean.to(x.dtype)
    a, b, c0 = coefficients
    c0 = (c0 - b * (mean - near)).to(x.dtype)
    a, b = a.to(x.dtype), b.to(x.dtype)
    views = (_blocks(_layout.view(t)) for t in (dy, x, dx))
    for upstream, part, out in zip(*views, strict=True):
        torch.sub(part, _spread(near, part), out=out)
        out.mul_(_spread(b, part)).add_(_spread(c0, part))
        out.addcmul_(upstream, _spread(a, part))
    return dx


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the mean and the biased variance of each channel."""
    mean, var = moments(x)
    return apply(x, mean, *_layout.scale_and_shift(var, weight, bias, eps)), mean, var


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of x, and in float64 those of weight and bias."""
    sums = gradient_sums(dy, x, mean)
    count = x.numel() // x.shape[1]
    values, dweight = _layout.coefficients(sums, count, var, weight, eps)
    return gradient_input(dy, x, mean, values), dweight, sums[0]


def _blocks(v: Tensor) -> tuple[Tensor, ...]:
    """Cut a view along its first axis."""
    return v.split(max(BLOCK * v.shape[0] // v.numel(), 1))


def _spread(statistic: Tensor, v: Tensor) -> Tensor:
    """Shape (c,) so that it broadcasts to a view."""
    return statistic if v.dim() == 2 else statistic[:, None]


def _sum(v: Tensor) -> Tensor:
    """Sum each channel: rows in their own precision, the sums of rows in float64."""
    rows = v.sum(-1) if v.dim() == 3 else v
    return rows.sum(0, dtype=torch.float64) if v.dim() == 3 else v.sum(0).double()


def _squares(v: Tensor, near: Tensor) -> Tensor:
    total = torch.zeros(near.shape, dtype=torch.float64)
    for part in _blocks(v):
        difference = part - _spread(near, part)
        if v.dim() == 3:
            norms = torch.linalg.vector_norm(difference, dim=-1).double()
            total += (norms * norms).sum(0)
        else:
            total += difference.square_().sum(0)
    return total
