"""Normalization layers for PyTorch that drop into real models.

On the CPU, with Numba installed (the extra ``fast``), training runs in compiled loops. The first
call forward and the first one backward compile for some seconds each, and again for each other
dtype and for channels_last input. The result is kept on disk, so later processes only load it.
``BNLIB_KERNEL=torch`` in the environment refuses Numba; torch operations in an order that spares
the memory serve then, as they do where Numba is missing. They are faster than ``torch.nn`` on
contiguous images, not on channels_last ones, where exact sums cost more than they save: there,
and on tensors of some thousand values, choose for the accuracy.
"""

from bnlib.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from bnlib.nn.group_norm import GroupNorm
from bnlib.nn.instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from bnlib.nn.layer_norm import LayerNorm
from bnlib.nn.rms_norm import RMSNorm

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
]
