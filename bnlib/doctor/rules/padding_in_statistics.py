"""Padding takes part in the means: a part of the positions is the same constant.

Sequences of different lengths are filled up, and the filler counts as values. The means then depend
on how much longer the longest sequence of the mini-batch is, and eval mode on how padded the
training was. It is seen as positions at the ends of sequences whose channels are all the same.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.norms import Norm
from bnlib.nn import MaskedBatchNorm1d

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = "bnlib.nn.MaskedBatchNorm1d, called with the mask; or a norm per position, such as layer norm"
CHAPTER = "convolution"

SHARE = 0.1
"""Of the positions. A mean moves by that share of its distance from the filler."""

LEAST_CHANNELS = 2
"""A single channel repeats a value easily: a sequence that is silent at its end is no padding."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms that average over filler, the one with most of it first, in one hit."""
    seen = case.look(_filler, training=True).seen
    shares = {name: max(each for each in found) for name, found in seen.items()}
    padded = sorted((n for n in shares if shares[n] > SHARE), key=lambda name: -shares[name])
    if padded:
        message = (
            f"{shares[padded[0]]:.0%} of the positions, at the ends of the sequences, hold the "
            "same constant in every channel, and take part in the means."
        )
        yield hit(padded, message, share=shares[padded[0]])


def _filler(norm: Norm, x: Tensor, y: Tensor) -> float:
    """Return the share of positions (n, l) of an input (n, c, l) that repeat the last one."""
    if x.dim() != 3 or x.shape[1] < LEAST_CHANNELS or norm.family != "batch":
        return 0.0
    if isinstance(norm.owner, MaskedBatchNorm1d):
        return 0.0
    rows = x.transpose(1, 2)  # (n, l, c)
    # The filler is what most sequences end with. A convolution mixes it at both of its ends, so
    # that the very last positions are left out where they are many enough.
    ends = rows[:, -1 - min(2, rows.shape[1] // 8)]
    filler = ends[int(torch.cdist(ends.double(), ends.double()).eq(0).sum(1).argmax())]
    same = (rows == filler).all(2)
    alike = int((ends == filler).all(1).sum())
    return float(same.double().mean()) if alike > 1 else 0.0
