"""RMS norm of tensors (r, d) out of torch operations, by blocks that stay in the cache."""

import torch
from torch import Tensor

BLOCK = 2**17  # elements


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, no mean, and 1 / sqrt(mean square + eps) of each row (r, 1)."""
    if center or bias is not None:
        raise NotImplementedError("layer norm has a kernel in torch")
    y, inv_rms = torch.empty_like(x), x.new_empty(x.shape[0], 1)
    for part, out, scale in _blocks(x, y, inv_rms):
        norm = torch.linalg.vector_norm(part, dim=1, keepdim=True)
        torch.rsqrt(norm.square_().div_(x.shape[1]).add_(eps), out=scale)
        torch.mul(part, scale, out=out)
        if weight is not None:
            out.mul_(weight)
    return y, x.new_empty(0), inv_rms


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, inv_std: Tensor, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x and weight, and no gradient of a bias."""
    dx, dweight = torch.empty_like(x), x.new_zeros(x.shape[1], dtype=torch.float64)
    for upstream, part, out, scale in _blocks(dy, x, dx, inv_std):
        x_hat = part * scale
        product = upstream * x_hat
        dweight += product.sum(0)
        if weight is not None:
            upstream, product = upstream * weight, product.mul_(weight)
        torch.addcmul(upstream, x_hat, product.mean(1, keepdim=True), value=-1, out=out)
        out.mul_(scale)
    return dx, dweight, x.new_empty(0)


def _blocks(*tensors: Tensor):
    """Cut all tensors (r, ...) along their rows into the same parts."""
    rows = max(BLOCK // tensors[0].shape[1], 1)
    return zip(*(t.split(rows) for t in tensors), strict=True)
