"""The definition of the norms in differentiable torch operations, on any device.

What the compiled loops compute, written so that autograd, ``torch.func``, ``torch.compile`` and
exporters see every step. Also the second derivative of the loops.
"""

import torch
from torch import Tensor

from bnlib.nn._cpu import memory_format

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (torch.float32, torch.float64, *HALVES)
PLAIN_TYPES = (Tensor, torch.nn.Parameter)
Axes = tuple[int, ...]
Output = tuple[Tensor, Tensor, Tensor]


def is_watched(first: Tensor, *others: Tensor | None) -> bool:
    """Whether loops that torch does not see would go wrong on these tensors.

    `first` is the input, or in the backward pass the gradient of the output, which
    ``is_grads_batched=True`` makes a batch of gradients, and forward mode a zero without memory.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch.autograd.forward_ad._current_level >= 0
        or any(
            t is not None and (type(t) not in PLAIN_TYPES or not t.is_cpu or t.is_neg())
            for t in (first, *others)
        )
        or torch._C._functorch.is_legacy_batchedtensor(first)
        or first._is_zerotensor()
    )


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
    return memory_format.like(x_hat.to(like.dtype), like)


def channel_axes(x: Tensor) -> Axes:
    """All axes but 1."""
    return (0, *range(2, x.dim()))


def project(
    g: Tensor, x_hat: Tensor, inv_std: Tensor, mean_g: Tensor | float, mean_g_x_hat: Tensor
) -> Tensor:
    r"""Return the gradient of what was standardized; g is the gradient of x_hat.

    .. math:: dx = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
        \bigl(g - \overline{g} - \hat x\,\overline{g\,\hat x}\bigr)
    """
    return inv_std * (g - mean_g - x_hat * mean_g_x_hat)


def batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Output:
    """Return the output and the detached batch mean and biased variance, both (c,)."""
    x_hat, mean, var = standardize(x, channel_axes(x), eps)
    y = affine(x_hat, per_channel(weight, x), per_channel(bias, x), x)
    return y, mean.detach().flatten(), var.detach().flatten()


def batch_norm_backward(dy: Tensor, x: Tensor, weight: Tensor | None, eps: float) -> Output:
    """Return the gradients of x, weight and bias, themselves differentiable."""
    axes = channel_axes(x)
    x_hat, _, var = standardize(x, axes, eps)
    g = dy if weight is None else dy * per_channel(weight, x)
    means = g.mean(axes, keepdim=True), (g * x_hat).mean(axes, keepdim=True)
    dx = project(g, x_hat, torch.rsqrt(var + eps), *means)
    return dx, (dy * x_hat).sum(axes), dy.sum(axes)


def _standardize_rows(x: Tensor, axes: Axes, eps: float, center: bool) -> tuple[Tensor, Tensor]:
    """Return x_hat and the variance, or the mean square if not `center`."""
    if center:
        x_hat, _, var = standardize(x, axes, eps)
        return x_hat, var
    x = x.to(computing_dtype(x))
    square = (x * x).mean(axes, keepdim=True)
    return x * torch.rsqrt(square + eps), square


def row_norm(
    x: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    center: bool,
) -> Tensor:
    """Normalize over the last axes, of the given shape: layer norm, or RMS norm if not `center`."""
    x_hat, _ = _standardize_rows(x, tuple(range(-len(shape), 0)), eps, center)
    return affine(x_hat, weight, bias, x)


def row_norm_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, eps: float, center: bool
) -> Output:
    """Return the differentiable gradients of x (r, d), weight and bias of layer or RMS norm."""
    x_hat, var = _standardize_rows(x, (1,), eps, center)
    g = dy if weight is None else dy * weight
    mean_g = g.mean(1, keepdim=True) if center else 0.0
    dx = project(g, x_hat, torch.rsqrt(var + eps), mean_g, (g * x_hat).mean(1, keepdim=True))
    return dx, (dy * x_hat).sum(0), dy.sum(0)


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize each group of channels of each example of `x` (n, c, ...)."""
    grouped = x.unflatten(1, (groups, x.shape[1] // groups))
    x_hat, _, _ = standardize(grouped, tuple(range(2, grouped.dim())), eps)
    return affine(x_hat.flatten(1, 2), per_channel(weight, x), per_channel(bias, x), x)


def group_norm_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, eps: float, groups: int
) -> Output:
    """Return the differentiable gradients of x (n, c, l), weight and bias of group norm."""
    grouped = x.reshape(x.shape[0], groups, -1)
    x_hat, _, var = standardize(grouped, (2,), eps)
    g = (dy if weight is None else dy * weight[:, None]).reshape(grouped.shape)
    means = g.mean(2, keepdim=True), (g * x_hat).mean(2, keepdim=True)
    dx = project(g, x_hat, torch.rsqrt(var + eps), *means)
    return dx.view(x.shape), (dy * x_hat.view(x.shape)).sum((0, 2)), dy.sum((0, 2))
