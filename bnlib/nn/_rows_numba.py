"""Layer norm and RMS norm of tensors (r, d) with the compiled loops of `_row_loops`."""

import numpy as np
import torch
from torch import Tensor

from bnlib.nn import _memory, _row_loops
from bnlib.nn._kernel_numba import or_constant, run

CHUNKS = 64  # parts of the rows at most: each has gradients of weight and bias of its own


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the mean (0 if not centred) and 1 / sqrt(var + eps) of each row."""
    y, v = _memory.empty_like(x), x.detach().numpy()
    mean, inv_std = np.empty((2, x.shape[0]))
    weight, bias = or_constant(weight, 1, v), or_constant(bias, 0, v)
    run(_row_loops.forward, v, weight, bias, eps, center, y.numpy(), mean, inv_std)
    return y, torch.from_numpy(mean), torch.from_numpy(inv_std)


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, inv_std: Tensor, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias."""
    dx, v = _memory.empty_like(x), x.detach().numpy()
    sums = np.zeros((min(CHUNKS, -(-x.shape[0] // 8)), 2, x.shape[1]))
    arrays = dy.detach().numpy(), v, or_constant(weight, 1, v)
    run(_row_loops.backward, *arrays, mean.numpy(), inv_std.numpy(), center, dx.numpy(), sums)
    return dx, *torch.from_numpy(sums.sum(0))
