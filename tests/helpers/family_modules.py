"""The layers that torch has not, with what it takes to call them."""

import torch
from torch import nn

from bnlib import nn as bnn

MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)
FAMILY = {  # name: constructor arguments, options, shape of an input, other inputs
    "BatchRenorm1d": ((2,), {"r_max": 1.0, "d_max": 0.0}, (4, 2), ()),
    "BatchRenorm2d": ((2,), {"r_max": 1.0, "d_max": 0.0}, (2, 2, 1, 3), ()),
    "BatchRenorm3d": ((2,), {"r_max": 1.0, "d_max": 0.0, "momentum": None}, (2, 2, 1, 1, 3), ()),
    "GhostBatchNorm1d": ((2,), {"ghost_size": 2}, (5, 2), ()),
    "GhostBatchNorm2d": ((2,), {"ghost_size": 1}, (2, 2, 1, 3), ()),
    "GhostBatchNorm3d": ((2,), {"ghost_size": 2}, (3, 2, 1, 1, 2), ()),
    "FrozenBatchNorm1d": ((2,), {}, (3, 2), ()),
    "FrozenBatchNorm2d": ((2,), {}, (2, 2, 1, 2), ()),
    "FrozenBatchNorm3d": ((2,), {}, (2, 2, 1, 1, 2), ()),
    "SplitBatchNorm1d": ((2,), {}, (4, 2), ()),
    "SplitBatchNorm2d": ((2,), {"streams": 3}, (2, 2, 1, 2), ()),
    "SplitBatchNorm3d": ((2,), {}, (2, 2, 1, 1, 2), ()),
    "MaskedBatchNorm1d": ((2,), {}, (3, 2, 4), (MASK,)),
    "ConditionalBatchNorm1d": ((2,), {"num_conditions": 3}, (4, 2), (torch.tensor([2, 0, 2, 1]),)),
    "ConditionalBatchNorm2d": (
        (2,), {"num_conditions": 3}, (2, 2, 1, 3), (torch.linspace(-1, 2, 6).view(2, 3),),
    ),
    "DecorrelatedBatchNorm1d": ((3,), {}, (6, 3), ()),
    "DecorrelatedBatchNorm2d": ((4,), {"group_size": 2}, (3, 4, 1, 2), ()),
    "DecorrelatedBatchNorm3d": ((2,), {"bias": False}, (3, 2, 1, 1, 2), ()),
    "WSConv2d": ((1, 2, (1, 2)), {}, (2, 1, 2, 3), ()),
    "DyT": ((3,), {}, (2, 3), ()),
    "ScaleNorm": (((2, 3),), {}, (2, 2, 3), ()),
}  # fmt: skip


def build(
    name: str, dtype: torch.dtype = torch.float32, **more: object
) -> tuple[nn.Module, tuple[int, ...], tuple[torch.Tensor, ...]]:
    """A layer with random parameters and, where it has them, running statistics; its inputs."""
    args, options, shape, others = FAMILY[name]
    module = getattr(bnn, name)(*args, **options, **more).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(1, 0.5)
    if name.startswith("Frozen"):
        for buffer in (module.weight, module.bias, module.running_mean, module.running_var):
            buffer.uniform_(0.5, 2)
    return module, shape, others


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers."""
    return {k: v.clone() for k, v in module.state_dict().items()}
