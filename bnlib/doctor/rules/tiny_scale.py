"""The scales of some channels are almost zero beside the others of their norm.

Such a channel gives almost its shift alone, whatever comes in, and its weights get hardly any
gradient. Weight decay on the scale of the norm does this, and so does pruning, where it is meant.
The last norm of a residual branch may be initialized with scales that are all zero. It is healthy
as long as gradients reach the scales. If a ReLU follows directly, with no sum between, and the
shifts are zero, too, then no gradient reaches them, and the norm never learns.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.doctor.norms import Norm
from bnlib.doctor.observe import NotPossibleError

SEVERITY = "note"
NEEDS = ("state",)
FIX = (
    "no weight decay on scales: give the optimizer `bnlib.surgery.parameter_groups(model, "
    "weight_decay=0.0005)`; or take the channels out"
)
CHAPTER = "fine_tuning_and_freezing"

TINY = 1e-3
"""Of the largest scale of the same norm: about the spacing of float16 numbers relative to their
size, 2^-10, so in a sum with the others hardly anything of the channel is left."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms with such channels, the one with the largest share first, in one hit."""
    shares, channels, stuck = {}, 0, []
    for norm in case.norms.values():
        weight = norm.tensors.get("weight")
        if weight is None or not weight.numel():
            continue
        if not weight.any():
            stuck += [norm.name] if _is_stuck(case, norm) else []
            continue
        tiny = weight.abs() < TINY * weight.abs().max()
        if tiny.any():
            shares[norm.name] = float(tiny.double().mean())
            channels += int(tiny.sum())
    names = sorted(shares, key=lambda name: -shares[name])
    if names:
        message = (
            f"The scale of {counted(channels, 'channel')} in {counted(len(names), 'norm')} is less "
            f"than {TINY:g} of the largest beside it."
        )
        yield hit(names, message, channels=channels, share=shares[names[0]])
    if stuck:
        message = f"All scales of {counted(len(stuck), 'norm')} are zero and get no gradient."
        fix = (
            "start these scales at 1: "
            "`for name in finding.where: torch.nn.init.ones_(model.get_submodule(name).weight)`; "
            "zeros are for the last norm of a residual branch"
        )
        yield hit(stuck, message, severity="warning", fix=fix, norms=len(stuck))


def _is_stuck(case: Case, norm: Norm) -> bool:
    """Whether no gradient reaches the scales, as far as there are mini-batches to tell by."""
    if not case.batches:
        return False
    try:
        gradient = case.backward[True].parameters.get(f"{norm.name}.weight".removeprefix("."))
    except NotPossibleError:
        return False
    return gradient is not None and not gradient.any()
