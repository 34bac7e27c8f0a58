"""Normalization layers for PyTorch that drop into real models."""

from bnlib.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from bnlib.nn.group_norm import GroupNorm
from bnlib.nn.instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from bnlib.nn.layer_norm import LayerNorm
from bnlib.nn.rms_norm import RMSNorm
from bnlib.nn.sync_batch_norm import SyncBatchNorm
from bnlib.nn.sync_conversion import convert_sync_batchnorm, revert_sync_batchnorm

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
    "SyncBatchNorm",
    "convert_sync_batchnorm",
    "revert_sync_batchnorm",
]
