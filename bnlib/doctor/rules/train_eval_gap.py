"""Train mode and eval mode give different outputs for the same data.

Eval mode normalizes by running statistics. If these are not those of the data, the norm does not
standardize them: its output has another mean and another spread. The cause may be other data, a
wrong preprocessing, an average that lags behind weights that still move fast, or streams that were
mixed. The gap of a channel is the root mean square of the difference of its two standardized
outputs, so a gap of 1 is one standard deviation of the data. Where no norm is far off, the gaps of
many can still add up, so the outputs of the model in eval mode are compared with those that it has
with the statistics of the very examples. Norms that were never trained, or are frozen on purpose,
are not looked at. Beside a finding that names a cause, this one is a note.
"""

from collections.abc import Iterator

from torch import Tensor

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, above, hit
from bnlib.doctor.norms import has_learned, is_initial
from bnlib.doctor.statistics import NOISE, gap, in_every_batch, own_examples

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
"""By how much new statistics change the outputs, of their size. In 36 short trainings of a residual
network, those above it lost 8 to 47 points of accuracy on the training images in eval mode."""

SOME_OUTPUTS = 0.25
"""From here on it is a note: such trainings lost 2 to 11 points, those of other networks none.
Below it, at most 3 were lost."""

CHANCE = 1.75
"""Times the change from one half of the examples to the other. By chance alone it is about 0.7
times that, since statistics of all of them scatter less than those of a half. In nine deep
untrained networks it was at most 1.5; in the short trainings above 0.3 it was 2 or more."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with a gap, the worst first, in one hit; else all, if their gaps add up."""
    train = case.forward(training=True)
    gaps, examples, new, batches = {}, {}, False, len(train.outputs)
    for name, calls in train.calls.items():
        norm = case.norms[name]
        used = all(c.uses_batch for c in calls) and in_every_batch(calls, batches)
        if norm.family == "batch" and used:
            if is_initial(norm) and not has_learned(norm):
                new = True
            else:
                gaps[name], examples[name] = gap(norm, calls), own_examples(calls)
    if not gaps:
        return
    off = [n for n in above(gaps, GAP) if gaps[n] > NOISE / examples[n] ** 0.5]
    fewest, worst = min(examples.values()), max(gaps.values())
    outputs = case.forward(training=False).outputs
    change = 0.0 if new else _change(outputs, case.fitted(range(batches)).outputs)
    if off:
        message = (
            f"On {examples[off[0]]} examples the median channel differs by {gaps[off[0]]:.2g} "
            "standard deviations between train and eval mode"
            + (f"; their statistics change the outputs by {change:.0%}." if change else ".")
        )
        yield hit(off, message, gap=gaps[off[0]], outputs=change, examples=examples[off[0]])
    elif change > SOME_OUTPUTS and batches > 1:
        halves = [case.fitted(range(first, batches, 2)).outputs for first in (0, 1)]
        chance = _change(*halves)
        if change > CHANCE * chance:
            message = (
                f"In eval mode the outputs of the model change by {change:.0%} with the statistics "
                f"of these {fewest} examples, and by {chance:.0%} from one half of them to the "
                f"other. No norm is far off, at most {worst:.2g} standard deviations, but all of "
                "them add up."
            )
            severity = None if change > OUTPUTS else "note"
            yield hit(
                gaps,
                message,
                severity=severity,
                gap=worst,
                outputs=change,
                chance=chance,
                examples=fewest,
            )


def _change(one: list[list[Tensor]], other: list[list[Tensor]]) -> float:
    """Return how far outputs are apart, relative to the root of their mean square."""
    pairs = [
        (a.double(), b.double())
        for these, those in zip(one, other, strict=True)
        for a, b in zip(these, those, strict=False)
        if a.shape == b.shape
    ]
    size = sum(float(a.square().sum() + b.square().sum()) for a, b in pairs) / 2
    return (sum(float((a - b).square().sum()) for a, b in pairs) / size) ** 0.5 if size else 0.0
