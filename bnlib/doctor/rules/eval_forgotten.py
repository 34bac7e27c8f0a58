"""A model is evaluated in train mode, or a part of it stays in train mode.

Without ``model.eval()`` each norm goes on normalizing by the mini-batch, so a prediction depends on
the other examples in it, and the running statistics move towards the data of the evaluation. A
watched loop shows this by forward passes in a row, in train mode and without gradients. A single
one is good to know only, because samples are drawn like this, too, and one in each step is healthy,
because a GAN makes it for its discriminator. Without ``no_grad()`` it shows by many passes in a row
that no backward pass follows. A cumulative average is recomputed by such passes, so there it is a
note; a teacher that only follows its student is healthy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

if TYPE_CHECKING:
    from bnlib.doctor.record import Record

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = "`model.eval()` before the evaluation, `model.train()` after it"
CHAPTER = "questions#q-eval-or-no-grad"

IN_A_ROW = 2
"""Forward passes without gradients and with nothing else between them: two are a loop, a single one
may be wanted."""

UNUSED = 5
"""Forward passes with gradients in a row: the last one may be that of the next step, and two or
three are views of one example, or the passes of a discriminator."""

SHARE = 0.5
"""Share of the steps with such passes above which they are a part of the training, as those of a
generator for its discriminator; evaluations are rare."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms in train mode of a model in eval mode, and a watched evaluation."""
    inside = [n.name for n in case.norms.values() if n.mode == "train" and n.mean is not None]
    if not case.model.training and inside:
        message = (
            f"The model is in eval mode, with {counted(len(inside), 'norm')} in train mode in it."
        )
        yield hit(inside, message, norms=len(inside))
    if case.record is not None:
        yield from _without_gradients(case, case.record)
        yield from _with_gradients(case.record)


def _without_gradients(case: Case, record: Record) -> Iterator[Hit]:
    moved = {n: seen.moved_without_gradient for n, seen in record.norms.items()}
    if "f" not in record.longest:  # a teacher, watched alone
        moved = {n: calls for n, calls in moved.items() if not record.norms[n].learned}
    names = [name for name, calls in moved.items() if calls]
    row, calls = record.longest.get("n", 0), max(moved.values(), default=0)
    steps = sum(n for pattern, n in record.patterns.items() if "n" in pattern)
    is_rare, is_loop = steps <= SHARE * record.steps, row >= IN_A_ROW
    if names and row and (is_rare or is_loop):
        message = (
            f"{counted(calls, 'forward pass')} in train mode without gradients moved the running "
            f"statistics, {row} of them in a row."
        )
        is_average = all(case.norms[name].momentum is None for name in names)
        severity = None if is_rare and is_loop and not is_average else "note"
        yield hit(names, message, severity=severity, in_a_row=row, calls=calls)


def _with_gradients(record: Record) -> Iterator[Hit]:
    row = record.longest.get("f", 0)
    steps = sum(n for pattern, n in record.patterns.items() if UNUSED * "f" in pattern)
    names = [name for name, seen in record.norms.items() if seen.modes["train"]]
    if names and row >= UNUSED and record.steps and steps <= SHARE * record.steps:
        message = (
            f"{row} forward passes followed one another in train mode and with gradients, and no "
            "backward pass used them."
        )
        yield hit(names, message, in_a_row=row, steps=steps)
