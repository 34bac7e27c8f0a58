"""The flag `track_running_stats` leaves a norm without statistics, or with ones that do not move.

Built with ``track_running_stats=False`` a norm has no running statistics, so eval mode normalizes
by the mini-batch and a prediction depends on its companions. Set to False on a finished norm, the
flag does something else: the old statistics stay, eval mode uses them, and training no longer
updates them.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit

SEVERITY = "warning"
NEEDS = ("structure",)
FIX = (
    "build it with track_running_stats=True, and load the weights with strict=False; then "
    "`bnlib.surgery.recalibrate(model, loader)` gives it its statistics"
)
CHAPTER = "inference"


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms without statistics, and those with statistics that nothing updates."""
    own = [n for n in case.norms.values() if n.family == "batch" and not n.frozen]
    flags = {n.name: getattr(n.module, "track_running_stats", None) for n in own}
    without = [n.name for n in own if n.mean is None and flags[n.name] is not None]
    if without:
        message = (
            f"{counted(len(without), 'norm')} of {len(own)} without running statistics: eval mode "
            "normalizes by the mini-batch."
        )
        yield hit(without, message, norms=len(without), of=len(own))
    stopped = [n.name for n in own if n.mean is not None and flags[n.name] is False]
    if stopped:
        message = (
            f"The flag of {counted(len(stopped), 'norm')} is False, but there are statistics: eval "
            "mode uses them, and training does not update them."
        )
        fix = (
            "`for name in finding.where: model.get_submodule(name).track_running_stats = True`; "
            "or, to keep these statistics, `bnlib.surgery.freeze(model, layers=finding.where)`"
        )
        yield hit(stopped, message, fix=fix, norms=len(stopped), of=len(own))
