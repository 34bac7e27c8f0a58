"""Padding takes part in the means: a part of the positions is the same constant.

Sequences of different lengths are filled up, and the filler counts as values. So the means depend
on how much longer the longest sequence of the mini-batch is, and eval mode depends on how much
padding the training had. The rule looks for runs of positions, at the end or at the beginning of
several sequences, that hold the same values in all channels.
"""

from collections.abc import Iterator

from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, above, hit
from bnlib.doctor.norms import Norm
from bnlib.nn import MaskedBatchNorm1d

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = (
    "`bnlib.nn.MaskedBatchNorm1d`, called with the mask; or a norm per position, such as "
    "`torch.nn.LayerNorm`"
)
CHAPTER = "questions#q-padding"

SHARE = 0.1
"""Of the positions. A mean moves by this share of its distance from the filler, here by a tenth."""

LEAST_CHANNELS = 2
"""A single channel easily repeats a value, as a recording that is silent at its end does, and this
is no padding."""

EDGE = 2
"""Positions at the very end that are not looked at, because a convolution mixes them with its own
zeros; only one if there are fewer than 16 positions, and none if there are fewer than 8."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms that average over filler, the one with most of it first, in one hit."""
    seen = case.look(_filler, training=True).seen
    shares = {name: max(each for each in found) for name, found in seen.items()}
    padded = above(shares, SHARE)
    if padded:
        message = (
            f"{shares[padded[0]]:.0%} of the positions, in runs at one end of the sequences, all "
            "hold the same values, and take part in the means."
        )
        yield hit(padded, message, share=shares[padded[0]])


def _filler(norm: Norm, x: Tensor, y: Tensor) -> float:
    """Return the share of filler in the positions of an input (n, c, l), behind or before."""
    if x.dim() != 3 or x.shape[1] < LEAST_CHANNELS or norm.family != "batch" or not norm.uses_batch:
        return 0.0
    if isinstance(norm.owner, MaskedBatchNorm1d):
        return 0.0
    rows = x.transpose(1, 2)  # (n, l, c)
    return max(_run(rows), _run(rows.flip(1)))


def _run(rows: Tensor) -> float:
    """Return the share of positions in runs, to the end, of what most sequences end with."""
    length = rows.shape[1]
    rows = rows[:, : length - min(EDGE, length // 8)]
    kinds, counts = rows[:, -1].unique(dim=0, return_counts=True)
    if int(counts.max()) < 2:
        return 0.0
    same = (rows == kinds[counts.argmax()]).all(2)
    return int(same.flip(1).int().cumprod(1).sum()) / (len(rows) * length)
