"""Timm's architectures with batch norms, at initialization, with statistics of random images.

Nothing is wrong with them: whatever the doctor calls an error or a warning is a false alarm. They
are taken in a random order, the same each time, so that a run that ended early has seen a sample.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from importlib import util
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.doctor.case import Case
from benchmarks.doctor.networks import generator, norms
from bnlib.surgery import recalibrate

MILLIONS = 30  # of parameters; larger ones are skipped, as they take long and are wider twins
SIZES = (64, 96, 128, 160, 224, 256, 288, 320, 384)
M = 12  # more than `few_values` asks for, as norms of squeeze and excitation see a pixel of each
PASSES = 3
TIMED = (
    "resnet18",
    "resnet50",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "efficientnet_b0",
    "densenet121",
    "regnety_008",
    "vgg11_bn",
    "dla34",
    "ghostnet_100",
)
TIMED_SIZE = 64
STEPS = 15


class Architecture(NamedTuple):
    """One of timm, as seen without weights.

    Attributes
    ----------
    name : str
    norms : int
        Batch norms.
    millions : float
        Of parameters.
    size : int
        Smallest side of an image that it takes, of `SIZES`; 0 if it takes none.
    """

    name: str
    norms: int
    millions: float
    size: int

    @property
    def skipped(self) -> str:
        """Why it is not examined; else empty."""
        if self.millions > MILLIONS:
            return f"more than {MILLIONS} million parameters"
        return "" if self.size else "takes none of the sizes of image"


def names() -> list[str]:
    """Return the names of timm's architectures in a random order; none without timm."""
    if not util.find_spec("timm"):
        return []
    import timm

    found = timm.list_models()
    random.Random(0).shuffle(found)
    return found


def survey(name: str) -> Architecture:
    """Look at an architecture on the meta device, where nothing is computed."""
    with torch.device("meta"):
        model = _create(name).train()
    found, millions = len(norms(model)), sum(p.numel() for p in model.parameters()) / 1e6
    channels = getattr(model, "default_cfg", {}).get("input_size", (3,))[0]
    size = 0
    if found and millions <= MILLIONS:
        size = next((s for s in SIZES if _takes(model, channels, s)), 0)
    return Architecture(name, found, round(millions, 2), size)


def case_of(architecture: Architecture) -> Case:
    """Build an architecture, with running statistics of a few mini-batches of random images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _create(architecture.name).train()
    channels = getattr(model, "default_cfg", {}).get("input_size", (3,))[0]
    shape = M, channels, architecture.size, architecture.size
    batches = [(torch.randn(shape, generator=generator(i)),) for i in range(PASSES)]
    recalibrate(model, batches)
    return Case(model.eval(), batches[:2])


def timing(name: str) -> dict[str, float]:
    """Return the processor seconds of a training step, and of `examine` with all it can be given.

    Both have mini-batches of `M` images; the step is the median of some, `examine` reads four.
    `watched` is a step in `watch` over one without, the median of pairs in turn.
    """
    from bnlib.doctor import examine, watch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _create(name).train()
    shape, labels = (M, 3, TIMED_SIZE, TIMED_SIZE), torch.arange(M)
    batches = [(torch.randn(shape, generator=generator(i)), labels) for i in range(4)]

    def loss(output: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(output, batch[1])

    def seconds_of_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        def step() -> None:
            optimizer.zero_grad()
            loss(model(batches[0][0]), batches[0]).backward()
            optimizer.step()

        return _seconds(step)

    plain, twin = ((m, torch.optim.SGD(m.parameters(), 1e-3)) for m in (model, deepcopy(model)))
    for each in (plain, twin):
        seconds_of_step(*each)  # the first one is slower
    with watch(*twin):
        pairs = [(seconds_of_step(*plain), seconds_of_step(*twin)) for _ in range(STEPS)]
    one, watched = median(a for a, _ in pairs), median(b / a for a, b in pairs)
    whole = _seconds(lambda: examine(model, batches, loss=loss, optimizer=plain[1]))
    return {
        "step": round(one, 4),
        "examine": round(whole, 4),
        "ratio": round(whole / one, 2),
        "watched": round(watched, 3),
    }


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _create(name: str) -> nn.Module:
    import timm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return timm.create_model(name, pretrained=False)


def _takes(model: nn.Module, channels: int, size: int) -> bool:
    try:
        with torch.no_grad():
            output = model(torch.empty(2, channels, size, size, device="meta"))
    except Exception:  # whatever an architecture says to an image that is too small
        return False
    return isinstance(output, Tensor | tuple | list | dict)
