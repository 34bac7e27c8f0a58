"""Neural-network layers in NumPy, every backward pass derived by hand."""

from bnlib.layers.activations import Flatten, ReLU, Sigmoid, Tanh
from bnlib.layers.base import Layer
from bnlib.layers.batch_norm import BatchNorm
from bnlib.layers.batch_renorm import BatchRenorm
from bnlib.layers.containers import Residual, Sequential
from bnlib.layers.convolution import Conv2d
from bnlib.layers.dropout import Dropout
from bnlib.layers.dynamic_tanh import DynamicTanh
from bnlib.layers.ghost_batch_norm import GhostBatchNorm
from bnlib.layers.group_norm import GroupNorm, InstanceNorm
from bnlib.layers.half_batch_norms import MeanOnlyBatchNorm, ScaleOnlyBatchNorm
from bnlib.layers.initializers import he, orthogonal, scaled, xavier
from bnlib.layers.layer_norm import LayerNorm, RMSNorm
from bnlib.layers.linear import Linear
from bnlib.layers.losses import mean_squared_error, softmax_cross_entropy
from bnlib.layers.optimizers import SGD, Adam
from bnlib.layers.pooling import AvgPool2d, MaxPool2d
from bnlib.layers.random_shift import RandomShift

__all__ = [
    "SGD",
    "Adam",
    "AvgPool2d",
    "BatchNorm",
    "BatchRenorm",
    "Conv2d",
    "Dropout",
    "DynamicTanh",
    "Flatten",
    "GhostBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "MeanOnlyBatchNorm",
    "RMSNorm",
    "RandomShift",
    "ReLU",
    "Residual",
    "ScaleOnlyBatchNorm",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "he",
    "mean_squared_error",
    "orthogonal",
    "scaled",
    "softmax_cross_entropy",
    "xavier",
]
