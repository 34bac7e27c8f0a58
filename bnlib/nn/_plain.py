"""The definition of the norms in differentiable torch operations, on any device.

What the fast kernels compute, written so that autograd, ``torch.func``, ``torch.compile`` and
exporters see every step. Also the second derivative of the fast path.
"""

import torch
from torch import Tensor

from bnlib.nn import _layout

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (torch.float32, torch.float64, *HALVES)
Axes = tuple[int, ...]


def computing_dtype(x: Tensor) -> torch.dtype:
    """Precision of the statistics: float32 for float16 and bfloat16, else that of `x`."""
    return torch.float32 if x.dtype in HALVES else x.dtype


def standardize(x: Tensor, axes: Axes, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return x_hat, the mean and the biased variance over `axes`, which keep length 1.

    What rounding left in the mean is found from the differences and taken off: a constant
    channel gives exactly 0, and a mean far from 0 costs no digits.
    """
    x = x.to(computing_dtype(x))
    mean = x.mean(axes, keepdim=True)
    difference = x - mean
    left = difference.mean(axes, keepdim=True)
    difference = difference - left
    var = (difference * difference).mean(axes, keepdim=True)
    return difference * torch.rsqrt(var + eps), mean + left, var


def per_channel(parameter: Tensor | None, x: Tensor) -> Tensor | None:
    """Shape a parameter (c,) so that it broadcasts along axis 1 of `x`."""
    return None if parameter is None else parameter.view(1, -1, *[1] * (x.dim() - 2))


def affine(x_hat: Tensor, weight: Tensor | None, bias: Tensor | None, like: Tensor) -> Tensor:
    """Scale and shift `x_hat` by parameters that broadcast.

    The result has the dtype and the memory format of `like`, so that it has the strides that the
    kernels give: a ``.view`` of it works everywhere or nowhere.
    """
    if weight is not None:
        x_hat = x_hat * weight
    if bias is not None:
        x_hat = x_hat + bias
    return _layout.like(x_hat.to(like.dtype), like)


def channel_axes(x: Tensor) -> Axes:
    """All axes but 1."""
    return (0, *range(2, x.dim()))


def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output and the detached batch mean and biased variance, both (c,)."""
    x_hat, mean, var = standardize(x, channel_axes(x), eps)
    y = affine(x_hat, per_channel(weight, x), per_channel(bias, x), x)
    return y, mean.detach().flatten(), var.detach().flatten()


def batch_norm_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the gradients of x, weight and bias, themselves differentiable.

    .. math:: dx = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}
        \bigl(dy - \overline{dy} - \hat x\,\overline{dy\,\hat x}\bigr)
    """
    axes = channel_axes(x)
    x_hat, _, var = standardize(x, axes, eps)
    scale = torch.rsqrt(var + eps)
    if weight is not None:
        scale = scale * per_channel(weight, x)
    product = dy * x_hat
    dx = scale * (dy - dy.mean(axes, keepdim=True) - x_hat * product.mean(axes, keepdim=True))
    return dx, product.sum(axes), dy.sum(axes)


def row_norm(
    x: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    center: bool,
) -> Tensor:
    """Normalize over the last axes, of the given shape: layer norm, or RMS norm if not `center`."""
    axes = tuple(range(-len(shape), 0))
    if center:
        x_hat, _, _ = standardize(x, axes, eps)
    else:
        values = x.to(computing_dtype(x))
        x_hat = values * torch.rsqrt((values * values).mean(axes, keepdim=True) + eps)
    return affine(x_hat, weight, bias, x)


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize each group of channels of each example of `x` (n, c, ...)."""
    grouped = x.unflatten(1, (groups, x.shape[1] // groups))
    x_hat, _, _ = standardize(grouped, tuple(range(2, grouped.dim())), eps)
    return affine(x_hat.flatten(1, 2), per_channel(weight, x), per_channel(bias, x), x)


def row_norm_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, eps: float, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the differentiable gradients of x (r, d), weight and bias of layer or RMS norm."""
    if center:
        x_hat, _, var = standardize(x, (1,), eps)
    else:
        var = (x * x).mean(1, keepdim=True)
        x_hat = x * torch.rsqrt(var + eps)
    g = dy if weight is None else dy * weight
    dx = g - x_hat * (g * x_hat).mean(1, keepdim=True)
    if center:
        dx = dx - g.mean(1, keepdim=True)
    return dx * torch.rsqrt(var + eps), (dy * x_hat).sum(0), dy.sum(0)


def group_norm_backward(
    dy: Tensor, x: Tensor, groups: int, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the differentiable gradients of x (n, c, l), weight and bias of group norm."""
    n = x.shape[0]
    grouped = x.reshape(n, groups, -1)
    x_hat, _, var = standardize(grouped, (2,), eps)
    g = (dy if weight is None else dy * weight[:, None]).reshape(grouped.shape)
    dx = g - g.mean(2, keepdim=True) - x_hat * (g * x_hat).mean(2, keepdim=True)
    dweight = (dy * x_hat.view(x.shape)).sum((0, 2))
    return (dx * torch.rsqrt(var + eps)).view(x.shape), dweight, dy.sum((0, 2))
