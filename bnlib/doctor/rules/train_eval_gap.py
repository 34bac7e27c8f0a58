"""Train mode and eval mode give different outputs for the same data.

Eval mode normalizes by running statistics. If these are not those of the data, the norm does not
standardize them: its output has another mean and another spread. The cause may be other data, a
wrong preprocessing, an average that lags behind, or streams that were mixed. The gap of a channel
is the root mean square of the difference of its two standardized outputs, so a gap of 1 is one
standard deviation of the data. A model that was never trained, and norms that are frozen on
purpose, are not looked at. Beside a finding that names a cause, this one is a note.
"""

from collections.abc import Iterator

from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, above, hit
from bnlib.doctor.norms import arrived
from bnlib.doctor.statistics import NOISE, gap

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = (
    "`bnlib.surgery.recalibrate(model, loader)` on training data, in the preprocessing of training"
)
CHAPTER = "debugging"
CAUSES = (
    "shifted-input",
    "stale-average",
    "buffers-not-copied",
    "too-few-updates",
    "large-momentum",
    "several-streams",
    "mixed-populations",
    "dropout-before-norm",
    "padding-in-statistics",
    "few-values",
)

GAP = 0.25
"""A quarter of a standard deviation, in half of the channels. It is that small because the gaps of
the layers add up: small convolutional networks with 0.24 to 0.5 lost a fifth to three quarters of
their accuracy in eval mode, and good statistics were within 0.1."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with a gap, the worst first, in one hit."""
    train = case.forward(training=True)
    examples = sum({call.batch: call.shape[0] for c in train.calls.values() for call in c}.values())
    gaps = {}
    for name, calls in train.calls.items():
        norm = case.norms[name]
        if norm.family == "batch" and arrived(norm) and all(c.uses_batch for c in calls):
            gaps[name] = gap(norm, calls)
    limit = max(GAP, NOISE / examples**0.5)
    worst = above(gaps, limit)
    if worst:
        outputs = _difference(train.outputs, case.forward(training=False).outputs)
        message = (
            f"On {examples} examples the median channel differs by {gaps[worst[0]]:.2g} standard "
            f"deviations between train and eval mode; the outputs of the model change by "
            f"{outputs:.0%}."
        )
        yield hit(worst, message, gap=gaps[worst[0]], outputs=outputs, examples=examples)


def _difference(train: list[list[Tensor]], test: list[list[Tensor]]) -> float:
    pairs = [
        (a.double(), b.double())
        for one, other in zip(train, test, strict=True)
        for a, b in zip(one, other, strict=False)
        if a.shape == b.shape
    ]
    size = sum(float(b.square().sum()) for _, b in pairs)
    return (sum(float((a - b).square().sum()) for a, b in pairs) / size) ** 0.5 if size else 0.0
