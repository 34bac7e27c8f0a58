"""Train mode and eval mode give different outputs for the same data.

Eval mode normalizes by running statistics. If these are not those of the data, the norm does not
standardize them: its output has another mean and another spread. The cause may be other data, a
wrong preprocessing, an average that lags behind weights that still move fast, or streams that were
mixed. The gap of a channel is the root mean square of the difference of its two standardized
outputs, so a gap of 1 is one standard deviation of the data. Where no norm is far off, the gaps of
many can still add up, so the outputs of the model in both modes are compared, too, without dropout.
They always differ a little, because train mode has the noise of the mini-batches. So they are
compared again with the statistics of the very examples, and only what these mend counts: the root
of the difference of the squares, as the two parts are independent. Norms that were never trained,
or are frozen on purpose, are not looked at. Beside a finding that names a cause, this one is a
note.
"""

from collections.abc import Iterator

from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, above, hit
from bnlib.doctor.norms import has_learned, is_initial
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
    "never-updated",
    "tracking-flag",
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

OUTPUTS = 0.45
"""What new statistics mend, of the size of the outputs. In 36 short trainings of a residual
network, those above it lost 8 or more points of accuracy on the training images in eval mode."""

SOME_OUTPUTS = 0.3
"""From here on it is a note: such trainings lost 3 to 11 points, those of other networks none.
Below it, at most 5 were lost."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with a gap, the worst first, in one hit; else all, if their gaps add up."""
    train = case.forward(training=True)
    examples = sum({call.batch: call.shape[0] for c in train.calls.values() for call in c}.values())
    gaps, new = {}, False
    for name, calls in train.calls.items():
        norm = case.norms[name]
        if norm.family == "batch" and all(call.uses_batch for call in calls):
            if is_initial(norm) and not has_learned(norm):
                new = True
            else:
                gaps[name] = gap(norm, calls)
    worst = max(gaps.values(), default=0.0)
    plain = case.forward(training=True, dropout=False).outputs
    outputs = _difference(plain, case.forward(training=False).outputs)
    noise = NOISE / examples**0.5
    off = above(gaps, max(GAP, noise))
    if off:
        message = (
            f"On {examples} examples the median channel differs by {worst:.2g} standard "
            "deviations between train and eval mode; the outputs of the model change by "
            f"{outputs:.0%}."
        )
        yield hit(off, message, gap=worst, outputs=outputs, examples=examples)
    elif gaps and not new and outputs > max(SOME_OUTPUTS, noise):
        left = _difference(plain, case.fitted.outputs)
        mended = max(outputs**2 - left**2, 0.0) ** 0.5
        if mended > max(SOME_OUTPUTS, noise):
            message = (
                f"On {examples} examples the outputs of the model differ by {outputs:.0%} between "
                f"train and eval mode, but by {left:.0%} with statistics of these examples. Each "
                f"norm is off by a little, at most {worst:.2g} standard deviations."
            )
            yield hit(
                [*gaps],
                message,
                severity=None if mended > OUTPUTS else "note",
                gap=worst,
                outputs=outputs,
                left=left,
                examples=examples,
            )


def _difference(train: list[list[Tensor]], test: list[list[Tensor]]) -> float:
    pairs = [
        (a.double(), b.double())
        for one, other in zip(train, test, strict=True)
        for a, b in zip(one, other, strict=False)
        if a.shape == b.shape
    ]
    size = sum(float(b.square().sum()) for _, b in pairs)
    return (sum(float((a - b).square().sum()) for a, b in pairs) / size) ** 0.5 if size else 0.0
