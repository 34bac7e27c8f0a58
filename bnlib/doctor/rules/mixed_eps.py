"""Some norms of a model have another eps than the rest.

Keras divides by sqrt(var + 0.001), PyTorch by sqrt(var + 0.00001). If weights are taken over
without their eps, the norm does not standardize as the weights were trained for. This matters where
the variance of a channel is not large compared with eps, so the message says by how much the common
eps would change the outputs of the norms concerned.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, counted, hit
from bnlib.doctor.norms import Norm

SEVERITY = "note"
NEEDS = ("structure",)
FIX = (
    "`for name in finding.where: model.get_submodule(name).eps = finding.evidence['common']`, "
    "if the weights were trained with the eps of the others"
)
CHAPTER = "conventions"

PYTORCH = 1e-5
"""The eps of torch.nn.BatchNorm2d, which is the common one where as many norms have another."""

FACTOR = 30.0
"""Times as large or as small as that of most norms. It is above 10, because 1e-5 and 1e-6 are both
in use and equally good."""

CHANGE = 0.02
"""Relative change of the outputs above which it is a warning: the noise of a mini-batch of a
thousand values changes them by about as much, sqrt(2 / 999) / 2."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms that differ from most, one hit for each eps."""
    found: dict[float, list[Norm]] = {}
    for norm in case.norms.values():
        if norm.eps is not None:
            found.setdefault(norm.eps, []).append(norm)
    common = max(found, key=lambda eps: (len(found[eps]), eps == PYTORCH), default=0.0)
    for eps, those in found.items():
        if common and 1 / FACTOR < eps / common < FACTOR:
            continue
        change = max(_change(norm, eps, common) for norm in those)
        by = f", which changes the outputs of a tenth of the channels by {change:.1%} or more"
        yield hit(
            [norm.name for norm in those],
            f"The eps of {counted(len(those), 'norm')} is {eps:g}, that of "
            f"{counted(len(found[common]), 'other')} is {common:g}{by if change else ''}.",
            severity="warning" if change > CHANGE else None,
            eps=eps,
            common=common,
            change=change,
        )


def _change(norm: Norm, eps: float, common: float) -> float:
    """Return by how much the common eps would change the outputs, in a tenth of the channels."""
    if norm.var is None:
        return 0.0
    least = max(float(norm.var.double().quantile(0.1)), 0.0)
    if not least + min(eps, common):
        return float("inf")
    return abs(((least + eps) / (least + common)) ** 0.5 - 1)
