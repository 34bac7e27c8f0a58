"""A model was put into eval mode for an evaluation, and never back into train mode.

``model.eval()`` lasts until the next ``model.train()``. Where the call is missing, the training
goes on with fixed running statistics: the norms do not see the mini-batches, so the statistics
belong to weights that are no more, and dropout is off. A watched loop shows it: first the forward
passes of the steps are in train mode, later in eval mode of the whole model. A model that is in
eval mode from the start is frozen on purpose, and so are norms in eval mode within a model in train
mode.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure", "watch")
FIX = (
    "`model.train()` after each evaluation; `bnlib.surgery.freeze(model, parameters=False)` if the "
    "statistics are to stay"
)
CHAPTER = "inference"

IN_A_ROW = 10
"""Steps in eval mode: a loop that changes the mode on purpose, as for two losses in turn, comes
back to train mode after fewer."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms of a model that trains on in eval mode, in one hit."""
    record = case.record
    assert record is not None
    record.require(steps=True)
    steps, row = record.in_eval_mode, record.longest_in_eval_mode
    names = [n.name for n in case.norms.values() if n.mean is not None and not n.frozen]
    if names and row >= IN_A_ROW:
        message = (
            f"After {counted(record.in_train_mode, 'step')} in train mode the model trained in "
            f"eval mode for {counted(steps, 'step')}, {row} of them in a row."
        )
        yield hit(names, message, steps=steps, in_a_row=row)
