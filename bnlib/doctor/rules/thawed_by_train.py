"""Norms that were put into eval mode were put back by ``train()``.

``model.train()`` sets the mode of every module in the model, so the norms that somebody froze with
``eval()`` move again from this call on. A watched loop shows it: a norm is first in eval mode
within a model in train mode, with gradients, and later in train mode.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure", "watch")
FIX = (
    "`bnlib.surgery.freeze(model, layers=finding.where, parameters=False)`, which train() "
    "does not undo"
)
CHAPTER = "fine_tuning_and_freezing"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms that were thawed, in one hit."""
    assert case.record is not None
    calls = {name: seen.thawed for name, seen in case.record.norms.items() if seen.thawed}
    if calls:
        message = (
            f"{counted(len(calls), 'norm')} in eval mode within a model in train mode went back to "
            f"train mode, for {max(calls.values())} calls."
        )
        yield hit(calls, message, norms=len(calls), calls=max(calls.values()))
