"""Normalization as plain NumPy functions: forward, inference and hand-derived backward.

Every norm is one operation, `standardize`, over some axes, followed by a scale and a shift.
"""

from bnlib.functional._normalize import NormCache
from bnlib.functional.batch_norm import (
    batch_norm_backward,
    batch_norm_double_backward,
    batch_norm_forward,
)
from bnlib.functional.batch_norm_inference import (
    batch_norm_inference,
    batch_norm_inference_backward,
)
from bnlib.functional.gradcheck import numerical_gradient, relative_error
from bnlib.functional.group_norm import group_norm_backward, group_norm_forward
from bnlib.functional.instance_norm import instance_norm_backward, instance_norm_forward
from bnlib.functional.layer_norm import layer_norm_backward, layer_norm_forward
from bnlib.functional.rms_norm import rms_norm_backward, rms_norm_forward
from bnlib.functional.running_statistics import RunningStatistics
from bnlib.functional.standardize import (
    Standardized,
    project,
    standardize,
    standardize_backward,
    standardize_double_backward,
)

__all__ = [
    "NormCache",
    "RunningStatistics",
    "Standardized",
    "batch_norm_backward",
    "batch_norm_double_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "group_norm_backward",
    "group_norm_forward",
    "instance_norm_backward",
    "instance_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "numerical_gradient",
    "project",
    "relative_error",
    "rms_norm_backward",
    "rms_norm_forward",
    "standardize",
    "standardize_backward",
    "standardize_double_backward",
]
