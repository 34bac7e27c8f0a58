"""In eval mode the prediction for an example depends on its companions.

Something still normalizes over the mini-batch: a norm without running statistics, a functional call
with ``training=True``, a hand-written mean over the examples. It is found by what happens: the
first example is shown within its mini-batch, and among copies of itself. Both mini-batches have the
same size, so that a model that draws random numbers in eval mode draws the same ones.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "error"
NEEDS = ("structure", "forward")
FIX = (
    "track_running_stats=True for the norm, or training=self.training in "
    "torch.nn.functional.batch_norm"
)
CHAPTER = "inference"

ROUNDING = 0.5
"""Exponent of the rounding unit: the rounding of sums changes an output by less than the square
root of the unit, 1.5e-8 in float64, but the other examples change it by some percent."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the model, if the outputs of the example differ."""
    whole, alone = case.alone
    differences = [_relative(a, b) for a, b in zip(whole, alone, strict=True)]
    limit = max(torch.finfo(x.dtype).eps for x in whole) ** ROUNDING
    if max(differences) > limit:
        message = (
            f"In eval mode the output for the first example changes by "
            f"{100 * max(differences):.2g}% if copies of the example take the place of the others."
        )
        yield hit("", message, difference=max(differences))


def _relative(a: Tensor, b: Tensor) -> float:
    size = float(torch.maximum(a.abs().max(), b.abs().max())) if a.numel() else 0.0
    return float((a - b).abs().max()) / size if size else 0.0
