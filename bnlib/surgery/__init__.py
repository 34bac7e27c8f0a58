"""Change trained PyTorch models with batch norms: fold, recalibrate, adapt, freeze, replace."""

from bnlib._extras import require

require("torch", extra="torch")

from bnlib.surgery._moments import PooledStatistics
from bnlib.surgery.adapt import adapt, use_batch_statistics
from bnlib.surgery.fold import Folded, FoldReport, fold
from bnlib.surgery.freeze import freeze, unfreeze
from bnlib.surgery.parameter_groups import parameter_groups
from bnlib.surgery.pause import pause_statistics
from bnlib.surgery.recalibrate import recalibrate
from bnlib.surgery.remove_redundant_bias import remove_redundant_bias
from bnlib.surgery.replace import group_norm, instance_norm, layer_norm, replace, to

__all__ = [  # noqa: RUF022 - by task, which is the order of the API page
    "fold",
    "FoldReport",
    "Folded",
    "remove_redundant_bias",
    "recalibrate",
    "PooledStatistics",
    "adapt",
    "use_batch_statistics",
    "pause_statistics",
    "freeze",
    "unfreeze",
    "replace",
    "to",
    "group_norm",
    "layer_norm",
    "instance_norm",
    "parameter_groups",
]
