"""A model is evaluated in train mode, or a part of it stays in train mode.

Without ``model.eval()`` each norm goes on normalizing by the mini-batch, so a prediction depends on
the other examples in it, and the running statistics move towards the data of the evaluation. A
watched loop shows this by forward passes in a row, in train mode and without gradients. A single
one is good to know only, because samples are drawn like this, too, and one in each step is healthy,
because a GAN makes it for its discriminator.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = "`model.eval()` before the evaluation, `model.train()` after it"
CHAPTER = "questions#q-eval-or-no-grad"

IN_A_ROW = 2
"""Forward passes without gradients and with nothing else between them: two are a loop, a single one
may be wanted."""

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
    if case.record is None:
        return
    moved = {n: w.moved_without_gradient for n, w in case.record.norms.items()}
    names = [name for name, calls in moved.items() if calls]
    row, calls = case.record.longest.get("n", 0), max(moved.values(), default=0)
    steps = sum(n for pattern, n in case.record.patterns.items() if "n" in pattern)
    is_rare, is_loop = steps <= SHARE * case.record.steps, row >= IN_A_ROW
    if names and row and (is_rare or is_loop):
        message = (
            f"{counted(calls, 'forward pass')} in train mode without gradients moved the running "
            f"statistics, {row} of them in a row."
        )
        severity = None if is_rare and is_loop else "note"
        yield hit(names, message, severity=severity, in_a_row=row, calls=calls)
