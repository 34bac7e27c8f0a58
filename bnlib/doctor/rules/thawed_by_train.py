"""Norms that were put into eval mode were put back by ``train()``.

``model.train()`` sets the mode of every module in the model, so the norms that somebody froze with
``eval()`` move again from this call on. A watched loop shows it: a norm is first in eval mode
within a model in train mode, with gradients, and later in train mode. If the whole part around it
was in eval mode, this is a note, because parts are loaded in eval mode and may be meant to learn.
Parts that change modes again and again, as in an attack or in the steps of a generator, are
healthy, and so are those whose parameters begin to learn at the same time.
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

OFTEN = 0.05
"""Returns to train mode per call in it: an epoch has more than 20 steps, so what comes back more
often changes modes within the steps, on purpose."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms that were thawed, in one hit."""
    record = case.record
    assert record is not None
    record.require()
    thawed = {n: s for n, s in record.norms.items() if s.thawed and _is_rare(s.returns, s.thawed)}
    alone = [name for name, seen in thawed.items() if not seen.with_its_part]
    for names, severity in ((alone, None), ([n for n in thawed if n not in alone], "note")):
        calls = {name: thawed[name].thawed for name in names}
        if not calls:
            continue
        most, part = max(calls.values()), ", with the part around them," if severity else ""
        message = (
            f"{counted(len(calls), 'norm')} in eval mode{part} within a model in train mode went "
            f"back to train mode, for {most} calls."
        )
        yield hit(calls, message, severity=severity, norms=len(calls), calls=most)


def _is_rare(returns: int, calls: int) -> bool:
    return returns == 1 or returns <= OFTEN * calls
