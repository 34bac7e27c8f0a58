"""The processes of a training hold different running statistics.

Each process of a DistributedDataParallel training without SyncBatchNorm sees its own examples. With
``broadcast_buffers=False`` the statistics drift apart, and usually only those of rank 0 are saved.
The rule compares the running means over the process group, so all processes have to examine.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, above, counted, hit
from bnlib.doctor.observe import NotPossibleError

SEVERITY = "warning"
NEEDS = ("state",)
FIX = (
    "`model = bnlib.nn.convert_sync_batchnorm(model)` before wrapping, or "
    "`bnlib.surgery.recalibrate(model, loader)` in every process"
)
CHAPTER = "beyond_one_machine"

GAP = 0.1
"""Of a running standard deviation, in the median channel: three times the noise of an average over
ten mini-batches of 100 values, 1 / sqrt(1000)."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms whose running means differ among the processes, in one hit."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
        raise NotPossibleError("a process group of two processes or more")
    gaps = {}
    for norm in case.norms.values():
        if norm.mean is not None and norm.var is not None:
            own = norm.mean.detach().contiguous()
            means = [torch.empty_like(own) for _ in range(dist.get_world_size())]
            dist.all_gather(means, own)
            spread = torch.stack(means).double().std(0, correction=0)
            gaps[norm.name] = float((spread / norm.var.double().clamp(min=1e-30).sqrt()).median())
    apart = above(gaps, GAP)
    if apart:
        message = (
            f"The running means of {counted(len(apart), 'norm')} differ among "
            f"{dist.get_world_size()} processes, by {gaps[apart[0]]:.2g} standard deviations."
        )
        yield hit(apart, message, gap=gaps[apart[0]], processes=dist.get_world_size())
