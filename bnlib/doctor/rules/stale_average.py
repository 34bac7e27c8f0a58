"""An average of weights has running statistics that are not its own.

The statistics of averaged weights (SWA, an exponential average) are not the average of the
statistics. And `torch.optim.swa_utils.AveragedModel` does not even average these unless told to: it
copies those of the model that it was last updated from.
"""

from collections.abc import Iterator

from torch.optim.swa_utils import AveragedModel

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, above, hit
from bnlib.doctor.statistics import NOISE, gap

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = (
    "before evaluating, `bnlib.surgery.recalibrate(model, loader)` or "
    "`torch.optim.swa_utils.update_bn(loader, model)`"
)
CHAPTER = "fine_tuning_and_freezing"

GAP = 0.2
"""Of a standard deviation, in half of the channels: less than `train_eval_gap` asks for, because
here the cause is known."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms of an average whose statistics do not fit, the worst first, in one hit."""
    if not any(isinstance(m, AveragedModel) and m.n_averaged > 0 for m in case.model.modules()):
        return
    train = case.forward(training=True).calls
    gaps = {
        name: gap(case.norms[name], calls)
        for name, calls in train.items()
        if case.norms[name].family == "batch" and all(call.uses_batch for call in calls)
    }
    examples = sum(call.shape[0] for call in next(iter(train.values())))
    limit = max(GAP, NOISE / examples**0.5)
    stale = above(gaps, limit)
    if stale:
        message = (
            f"The running statistics of this average of weights are {gaps[stale[0]]:.2g} standard "
            "deviations from those that the averaged weights give."
        )
        yield hit(stale, message, gap=gaps[stale[0]], examples=examples)
