"""Normalization layers for PyTorch: drop-ins for those of ``torch.nn``, and more of the family.

On the CPU, with Numba installed (the extra ``fast``), training runs in compiled loops, faster and
more accurate than torch's operations. The first call forward and the first one backward compile for
some seconds each, and again for each other dtype and for channels_last input. The result is kept
on disk, so later processes only load it. Without Numba, or with ``BNLIB_KERNEL=torch`` in the
environment, the layers that torch has too run torch's own operations, with their speed and their
accuracy. Everything else that a layer here promises holds there as well: a call that fails changes
no buffer, `refuse_nonfinite`, the strides of the output, empty mini-batches, statistics in half
precision. The other layers are then differentiable operations that lose no digits.

A library that is given a class may build another one: timm's ``create_model(norm_layer=...)`` looks
at the name ``BatchNorm2d`` and takes a class of its own. Look at what was built with
``isinstance``, or call `from_torch` on the model, which says what it had to leave.
"""

from bnlib._extras import require

require("torch", extra="torch")

from bnlib.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from bnlib.nn.batch_renorm import BatchRenorm1d, BatchRenorm2d, BatchRenorm3d
from bnlib.nn.conditional_batch_norm import ConditionalBatchNorm1d, ConditionalBatchNorm2d
from bnlib.nn.conversion import from_torch, to_torch
from bnlib.nn.decorrelated_batch_norm import (
    DecorrelatedBatchNorm1d,
    DecorrelatedBatchNorm2d,
    DecorrelatedBatchNorm3d,
)
from bnlib.nn.dyt import DyT
from bnlib.nn.frozen_batch_norm import FrozenBatchNorm1d, FrozenBatchNorm2d, FrozenBatchNorm3d
from bnlib.nn.ghost_batch_norm import GhostBatchNorm1d, GhostBatchNorm2d, GhostBatchNorm3d
from bnlib.nn.group_norm import GroupNorm
from bnlib.nn.instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from bnlib.nn.layer_norm import LayerNorm
from bnlib.nn.masked_batch_norm import MaskedBatchNorm1d
from bnlib.nn.rms_norm import RMSNorm
from bnlib.nn.scale_norm import ScaleNorm
from bnlib.nn.split_batch_norm import (
    SplitBatchNorm1d,
    SplitBatchNorm2d,
    SplitBatchNorm3d,
    use_stream,
)
from bnlib.nn.sync_batch_norm import SyncBatchNorm
from bnlib.nn.sync_conversion import convert_sync_batchnorm, revert_sync_batchnorm
from bnlib.nn.ws_conv import WSConv2d

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchRenorm1d",
    "BatchRenorm2d",
    "BatchRenorm3d",
    "ConditionalBatchNorm1d",
    "ConditionalBatchNorm2d",
    "DecorrelatedBatchNorm1d",
    "DecorrelatedBatchNorm2d",
    "DecorrelatedBatchNorm3d",
    "DyT",
    "FrozenBatchNorm1d",
    "FrozenBatchNorm2d",
    "FrozenBatchNorm3d",
    "GhostBatchNorm1d",
    "GhostBatchNorm2d",
    "GhostBatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "MaskedBatchNorm1d",
    "RMSNorm",
    "ScaleNorm",
    "SplitBatchNorm1d",
    "SplitBatchNorm2d",
    "SplitBatchNorm3d",
    "SyncBatchNorm",
    "WSConv2d",
    "convert_sync_batchnorm",
    "from_torch",
    "revert_sync_batchnorm",
    "to_torch",
    "use_stream",
]
