"""Batch-norm kernels out of torch operations, in an order that spares the memory.

Used where Numba is not installed. All take dense tensors (see `_layout`), compute statistics
and sums per channel that come out in float64, and know nothing of autograd.
"""

import torch
from torch import Tensor

from bnlib.nn import _layout

BLOCK = 2**18  # elements: a block and a temporary of its size stay in a core's cache
LANE = 4096  # values along a row that torch may add up in their own precision
NARROW = 16  # channels of channels_last input: torch's own loops are slow on fewer
LARGE = 2  # standard deviations: a mean further from 0 is corrected for what rounding left in it


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel, float64 (c,)."""
    v = _layout.view(x)
    count = x.numel() // x.shape[1]
    if _is_wide(v):
        mean, var = _moments_of_lines(v)
    else:
        mean = _sum(v) / count
        var = _squares(v) / count - mean * mean if v.dim() == 3 else torch.full_like(mean, -1)
    if _are_small(mean, var):
        return mean, var
    near = mean.to(x.dtype)
    left, square = x.new_zeros(2, x.shape[1], dtype=torch.float64)
    for part in _blocks(v):
        difference = part - _spread(near, part)
        left += _sum(difference)
        square += _squares(difference)
    left /= count
    if x.dtype is torch.float32 and not bool(square.isfinite().all()):
        return moments(x.double())  # the squares do not fit in float32, the variance may
    return near + left, (square / count - left**2).clamp_(min=0)


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
    sums = x.new_zeros(2, x.shape[1], dtype=torch.float64)
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
    if not _is_easy(x, mean, var):
        return apply(x, mean, *_layout.scale_and_shift(var, weight, bias, eps)), mean, var
    weight, bias = (None if p is None else p.detach() for p in (weight, bias))
    statistics = mean.to(x.dtype), var.to(x.dtype)
    y = torch.native_batch_norm(x.detach(), weight, bias, *statistics, False, 0, eps)[0]
    return y, mean, var


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias."""
    dx, dweight, dbias = _gradients(dy, x, weight, mean, var, eps)
    return dx, dweight.to(x.dtype), dbias.to(x.dtype)


def _gradients(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of x, and in float64 those of weight and bias."""
    v, easy = _layout.view(x), _is_easy(x, mean, var)
    if easy and v.dim() == 3:
        near, inv_std = mean.to(x.dtype), (var + eps).rsqrt_()
        statistics = near, inv_std.to(x.dtype)
        dx, *gradients = _backward_of_torch(dy, x, weight, *statistics, [True, True, True])
        dweight, dbias = (g.double() for g in gradients)
        return dx, dweight - (mean - near) * inv_std * dbias, dbias
    sums = _products_of_lines(_layout.view(dy), v, mean) if easy else gradient_sums(dy, x, mean)
    count = x.numel() // x.shape[1]
    values, dweight = _layout.coefficients(sums, count, var, weight, eps)
    if not easy:
        return gradient_input(dy, x, mean, values), dweight, sums[0]
    a, b, c0, near = torch.cat([values, mean[None]]).to(x.dtype)
    dx = torch.native_batch_norm(x, b, c0, near, torch.ones_like(b), False, 0, 0)[0]
    _layout.view(dx).addcmul_(_layout.view(dy), a)
    return dx, dweight, sums[0]


def _is_wide(v: Tensor) -> bool:
    """Whether `v` has lines (m, c) that torch's own loops are fast on."""
    return v.dim() == 2 and v.shape[1] >= NARROW


def _are_small(mean: Tensor, var: Tensor) -> bool:
    return bool(((mean * mean <= LARGE**2 * var) & var.isfinite()).all())


def _is_easy(x: Tensor, mean: Tensor, var: Tensor) -> bool:
    """Whether torch's own loops are fast and, as no mean is large, lose no digits."""
    v = _layout.view(x)
    return (v.dim() == 3 or _is_wide(v)) and _are_small(mean, var)


def _backward_of_torch(dy, x, weight, mean, inv_std, mask):
    return torch.ops.aten.native_batch_norm_backward(
        dy, x, weight, None, None, mean, inv_std, True, 0, mask
    )


def _lines(v: Tensor) -> int:
    """Lines that torch may add up in their own precision: there are some ten such parts."""
    return min(max(v.shape[0] // 16, 256), 2048)


def _moments_of_lines(v: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the moments of parts; exact enough only where no mean is large."""
    parts = v.split(_lines(v))
    moments = [torch.batch_norm_update_stats(part, None, None, 0) for part in parts]
    means, variances = (torch.stack(m).double() for m in zip(*moments, strict=True))
    share = means.new_tensor([[len(part) / len(v)] for part in parts])
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean) ** 2)).sum(0)


def _products_of_lines(dy: Tensor, v: Tensor, mean: Tensor) -> Tensor:
    near, one = mean.to(v.dtype), v.new_ones(v.shape[1])
    sums = v.new_zeros(2, v.shape[1], dtype=torch.float64)
    for upstream, part in zip(dy.split(_lines(v)), v.split(_lines(v)), strict=True):
        gradients = _backward_of_torch(upstream, part, None, near, one, [False, True, True])
        sums += torch.stack(gradients[:0:-1])
    sums[1] -= (mean - near) * sums[0]
    return sums


def _halved(v: Tensor) -> Tensor:
    """Cut the rows of (n, c, l) in halves, (n, c, parts, l / parts), until they are short."""
    parts = 1
    while v.shape[2] // parts > LANE and v.shape[2] % (2 * parts) == 0:
        parts *= 2
    return v.view(*v.shape[:2], parts, -1)


def _blocks(v: Tensor) -> tuple[Tensor, ...]:
    """Cut a view along its first axis."""
    return v.split(max(BLOCK * v.shape[0] // v.numel(), 1))


def _spread(statistic: Tensor, v: Tensor) -> Tensor:
    """Shape (c,) so that it broadcasts to a view."""
    return statistic if v.dim() == 2 else statistic[:, None]


def _sum(v: Tensor) -> Tensor:
    """Sum each channel: short rows in their own precision, the sums of rows in float64."""
    if v.dim() == 2:
        return v.sum(0).double()
    return _halved(v).sum(-1).sum((0, 2), dtype=torch.float64)


def _squares(v: Tensor) -> Tensor:
    """Sum the squares of each channel."""
    if v.dim() == 2:
        return v.square().sum(0).double()
    norms = torch.linalg.vector_norm(_halved(v), dim=-1).double()
    return (norms * norms).sum((0, 2))
