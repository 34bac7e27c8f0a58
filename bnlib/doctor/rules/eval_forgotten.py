"""A model is evaluated in train mode, or a part of it stays in train mode.

Without ``model.eval()`` each norm goes on normalizing by the mini-batch, so a prediction depends on
the other examples in it, and the running statistics move towards the data of the evaluation. A
watched loop shows this by forward passes in a row, in train mode and without gradients. A single
pass between two steps is no sign of it, because a GAN makes one for its discriminator.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = "model.eval() before the evaluation, model.train() after it"
CHAPTER = "inference"

IN_A_ROW = 2
"""Forward passes without gradients and with nothing else between them: two are a loop, a single one
may be wanted."""


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
    row = case.record.longest.get("n", 0)
    if names and row >= IN_A_ROW:
        message = (
            f"{row} forward passes in a row ran in train mode without gradients, and moved the "
            "running statistics."
        )
        yield hit(names, message, in_a_row=row, calls=max(moved.values()))
