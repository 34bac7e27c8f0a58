"""What one does to a trained PyTorch model with batch norms."""

from bnlib.surgery.fold import Folded, FoldReport, fold
from bnlib.surgery.freeze import freeze, unfreeze
from bnlib.surgery.recalibrate import recalibrate

__all__ = ["FoldReport", "Folded", "fold", "freeze", "recalibrate", "unfreeze"]
