"""Group norm of tensors (n, c, l) with the compiled loops of `_group_loops`."""

import numpy as np
import torch
from torch import Tensor

from bnlib.nn import _group_loops, _memory
from bnlib.nn._kernel_numba import or_constant, run


def forward(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and in float64 the mean and 1 / sqrt(var + eps) of each group."""
    y, v = _memory.empty_like(x), x.detach().numpy()
    mean, inv_std = np.empty((2, len(x) * groups))
    weight, bias = or_constant(weight, 1, v), or_constant(bias, 0, v)
    run(_group_loops.forward, _rows(x, groups), groups, weight, bias, eps, _rows(y, groups),
        mean, inv_std)  # fmt: skip
    return y, torch.from_numpy(mean), torch.from_numpy(inv_std)


def backward(
    dy: Tensor, x: Tensor, groups: int, weight: Tensor | None, mean: Tensor, inv_std: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias, the last two in float64."""
    dx, v = _memory.empty_like(x), _rows(x, groups)
    weight = or_constant(weight, 1, x.detach().numpy())
    sums = np.empty((2, *v.shape[:2]))
    statistics = mean.numpy(), inv_std.numpy()
    run(_group_loops.backward, _rows(dy, groups), v, groups, weight, *statistics,
        _rows(dx, groups), sums)  # fmt: skip
    dbias, dweight = torch.from_numpy(sums.reshape(2, *x.shape[:2]).sum(1))
    return dx, dweight, dbias


def _rows(x: Tensor, groups: int) -> np.ndarray:
    n, c, length = x.shape
    return x.detach().numpy().reshape(n * groups, c // groups, length)
