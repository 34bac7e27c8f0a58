"""What the processes of tests/doctor/rules/test_ranks_differ.py do; they import it by this name."""

import torch
import torch.distributed as dist
from random_inputs import SEED
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.parallel import DistributedDataParallel

from bnlib import nn as bnn
from bnlib.doctor.case import Case
from bnlib.doctor.rules import ranks_differ as rule
from bnlib.surgery import recalibrate


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4)
        self.c, self.d = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = F.relu(self.b(self.a(x)))
        return (x + self.d(self.c(x))).mean((2, 3))


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), (3,)),
    "residual": (Residual, (1, 4, 4)),
}


def batches(rank, shape, by):
    """Mini-batches of a process; those of another process are moved by `by`."""
    generator = torch.Generator().manual_seed(SEED + rank)
    return [torch.randn(64, *shape, generator=generator) + by * rank for _ in range(20)]


def trained(model, data, synchronized=False):
    if synchronized:
        bnn.convert_sync_batchnorm(model)
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for x in data:
        optimizer.zero_grad()
        wrapped(x).square().mean().backward()
        optimizer.step()
    return model


def found(model):
    return [(each.where, dict(each.evidence)) for each in rule.check(Case(model))]


def every_check(rank):
    """Return, by name, what the rule finds and the running means that it compared."""
    results = {}
    for name, (make, shape) in MODELS.items():
        own, same = batches(rank, shape, 3.0), batches(rank, shape, 0.0)
        model = trained(make(), own)
        norms = [
            norm for norm in model.modules() if isinstance(norm, nn.modules.batchnorm._NormBase)
        ]
        state = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
        results[name, "own data"] = found(model), state
        rule.GAP, limit = 1e3, rule.GAP
        results[name, "threshold"] = found(model)
        rule.GAP = limit
        results[name, "like data"] = found(trained(make(), same))
        results[name, "synchronized"] = found(trained(make(), own, synchronized=True))
        recalibrate(model, own)
        results[name, "recalibrated"] = found(model)
    assert dist.get_world_size() == 2
    return results
