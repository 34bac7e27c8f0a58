"""Train mode and eval mode give different outputs for the same data.

Eval mode normalizes by running statistics. Where these are not those of the data, as other data,
a wrong preprocessing, an average that lags behind, or streams that were mixed have made them, the
norm shifts and scales what it should standardize. The gap of a channel is the root mean square of
the difference of its two standardized outputs, so 1 means as far as the data are spread. A model
that was never trained, and norms that are frozen on purpose, are not looked at.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.norms import Norm
from bnlib.doctor.observe import Call

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = "surgery.recalibrate(model, loader) on training data, in the preprocessing of training"
CHAPTER = "inference"

GAP = 0.5
"""Half a standard deviation, in half of the channels: a network sees other features there."""

NOISE = 4.0
"""Means over n examples are off by about 1 / sqrt(n); so many of these may be chance."""

LEFT = 0.05
"""Share of the initial values in a running average above which it has not arrived yet."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with a gap, the worst first, in one hit."""
    train = case.forward(training=True)
    examples = sum({call.batch: call.shape[0] for c in train.calls.values() for call in c}.values())
    gaps = {}
    for name, calls in train.calls.items():
        norm = case.norms[name]
        if norm.family == "batch" and _has_arrived(norm) and all(c.uses_batch for c in calls):
            gaps[name] = _gap(norm, calls)
    limit = max(GAP, NOISE / examples**0.5)
    worst = sorted((n for n in gaps if gaps[n] > limit), key=lambda n: -gaps[n])
    if worst:
        outputs = _difference(train.outputs, case.forward(training=False).outputs)
        message = (
            f"On {examples} examples the median channel differs by {gaps[worst[0]]:.2g} standard "
            f"deviations between train and eval mode; the outputs of the model by {outputs:.2g} of "
            "their size."
        )
        yield hit(worst, message, gap=gaps[worst[0]], outputs=outputs, examples=examples)


def _has_arrived(norm: Norm) -> bool:
    if norm.mean is None or norm.var is None or norm.updates == 0:
        return False
    if norm.updates is None or norm.momentum is None:
        return True
    return (1 - norm.momentum) ** norm.updates <= LEFT


def _gap(norm: Norm, calls: list[Call]) -> float:
    means = torch.stack([call.mean for call in calls])
    mean = means.mean(0)
    var = torch.stack([call.var for call in calls]).mean(0) + means.var(0, correction=0)
    eps, running_mean, running_var = norm.eps or 0.0, norm.mean, norm.var
    if running_mean is None or running_var is None:
        return 0.0
    spread = (running_var.double() + eps).sqrt()
    shift = (mean - running_mean.double()) / spread
    scale = 1 - (var + eps).sqrt() / spread
    return float((shift**2 + scale**2).sqrt().median())


def _difference(train: list[list[Tensor]], test: list[list[Tensor]]) -> float:
    pairs = [
        (a.double(), b.double())
        for one, other in zip(train, test, strict=True)
        for a, b in zip(one, other, strict=False)
        if a.shape == b.shape
    ]
    size = sum(float(b.square().sum()) for _, b in pairs)
    return (sum(float((a - b).square().sum()) for a, b in pairs) / size) ** 0.5 if size else 0.0
