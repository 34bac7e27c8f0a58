"""Batch normalization of a mini-batch that lies in several processes.

Every process calls the same functions in the same order, with its part of the mini-batch; a part
may be empty. The loss whose gradients come out is the sum of the losses of all processes.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from bnlib.nn._cpu import definition, dispatch, memory_format

Group = dist.ProcessGroup


def all_reduce(x: Tensor, group: Group) -> Tensor:
    """Return the sum of `x` over the processes; `x` stays as it is."""
    x = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x, group=group)
    return x


class AllReduce(torch.autograd.Function):
    """`all_reduce` with its derivative, which is `all_reduce` again, so any order works."""

    @staticmethod
    def forward(x: Tensor, group: Group) -> Tensor:
        return all_reduce(x, group)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Group], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, None]:
        return AllReduce.apply(dy, ctx.group), None

    @staticmethod
    def jvp(ctx, tangent: Tensor, _: None) -> Tensor:
        return AllReduce.apply(tangent, ctx.group)


def moments(kernel: dispatch.Kernel, x: Tensor, group: Group) -> tuple[Tensor, Tensor, int]:
    """Return mean and biased variance of each channel over all processes, and the count.

    Chan's merge: the squared differences of all values from the common mean are those from the
    means of the processes, and the count of each process times the square of its mean's distance.

    Raises
    ------
    ValueError
        In every process, if all of them together have fewer than two values per channel.
    """
    c = x.shape[1]
    n = x.numel() // c
    mean, var = kernel.moments(x) if n else x.new_zeros(2, c, dtype=torch.float64)
    sums = all_reduce(torch.cat([n * mean, mean.new_tensor([n])]), group)
    count = check_count(int(sums[-1]))
    near = sums[:-1] / count
    distance = mean - near
    left, var = all_reduce(torch.stack([n * distance, n * (var + distance**2)]), group) / count
    return near + left, (var - left**2).clamp(min=0), count


def check_count(count: int) -> int:
    """Return `count` if statistics can be taken of so many values."""
    if count < 2:
        raise ValueError(
            "Expected more than 1 value per channel when training, "
            f"got {count} in the mini-batches of all processes"
        )
    return count


@torch._disable_dynamo  # one cut in a compiled graph, where the kernels run
def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: Group
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Normalize each channel of `x` (n, c, ...) by the statistics of all processes.

    Returns
    -------
    y : Tensor, shape, dtype and memory format of x
    mean, var : Tensor, (c,), float64
        Mean and biased variance, without gradient.
    count : int
        Values per channel in all processes.
    """
    kernel = dispatch.kernel()
    if kernel is None or definition.is_watched(x, weight, bias):
        x_hat, _, mean, var, count = standardize(x, eps, group)
        y = definition.affine(x_hat, *(definition.per_channel(p, x) for p in (weight, bias)), x)
        return y, mean.detach().flatten(), var.detach().flatten(), count
    values = memory_format.dense(x.to(definition.computing_dtype(x)))
    weight, bias = (None if p is None else p.to(values.dtype) for p in (weight, bias))
    mean, var, count = moments(kernel, values.detach(), group)
    y = SyncBatchNormFunction.apply(
        kernel, values, weight, bias, float(eps), group, mean, var, count
    )
    return y.to(x.dtype), mean, var, count


class SyncBatchNormFunction(torch.autograd.Function):
    """Loops over each process's part, and one `all_reduce` of two sums in the backward pass."""

    @staticmethod
    def forward(
        ctx,
        kernel: dispatch.Kernel,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        group: Group,
        mean: Tensor,
        var: Tensor,
        count: int,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.kernel, ctx.eps, ctx.group, ctx.count = kernel, eps, group, count
        if not x.numel():
            return torch.empty_like(x)
        weight, bias = map(memory_format.contiguous, (weight, bias))
        return kernel.apply(x, mean, var, weight, bias, eps)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:4]
        if torch.is_grad_enabled() or definition.is_watched(dy, x):
            gradients = batch_norm_backward(dy, x, weight, ctx.eps, ctx.group)
        else:
            x = memory_format.dense(x)  # hooks on saved tensors may have changed its strides
            kernel, dy, weight = (
                ctx.kernel,
                memory_format.like(dy, x),
                memory_format.contiguous(weight),
            )
            empty = not x.numel()
            sums = mean.new_zeros(2, len(mean)) if empty else kernel.gradient_sums(dy, x, mean)
            dx = torch.empty_like(x)
            if needs[0]:
                total = all_reduce(sums, ctx.group)
                arrays = dy, x, weight, mean, var
                dx = dx if empty else kernel.gradient_input(*arrays, ctx.eps, total, ctx.count)
            gradients = dx, sums[1] * (var + ctx.eps).rsqrt(), sums[0]
        gradients = (g.to(x.dtype) if n else None for g, n in zip(gradients, needs, strict=True))
        return None, *gradients, None, None, None, None, None


def standardize(x: Tensor, eps: float, group: Group) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return x_hat, the inverse deviation, mean, biased variance and count, differentiable."""
    x, axes = x.double(), definition.channel_axes(x)
    count = all_reduce(x.new_tensor([x.numel() // x.shape[1]]), group)
    count = check_count(int(count))
    mean = AllReduce.apply(x.sum(axes, keepdim=True), group) / count
    difference = x - mean
    var = AllReduce.apply((difference * difference).sum(axes, keepdim=True), group) / count
    inv_std = torch.rsqrt(var + eps)
    return difference * inv_std, inv_std, mean, var, count


def batch_norm_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, eps: float, group: Group
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias, float64 and themselves differentiable.

    That of x is the gradient of all losses; those of weight and bias are this process's share.
    """
    axes = definition.channel_axes(x)
    x_hat, inv_std, _, _, count = standardize(x, eps, group)
    dy = dy.double()
    g = dy if weight is None else dy * definition.per_channel(weight, x)
    sums = torch.stack([g.sum(axes, keepdim=True), (g * x_hat).sum(axes, keepdim=True)])
    means = AllReduce.apply(sums, group) / count
    dx = definition.project(g, x_hat, inv_std, *means)
    return dx, (dy * x_hat).sum(axes), dy.sum(axes)
