"""A case: a model, and how somebody would have the doctor look at it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from bnlib.nn import processes


class Case(NamedTuple):
    """What is examined, or watched.

    Attributes
    ----------
    model : torch.nn.Module
    batches : list, optional
        As a `DataLoader` yields them.
    arguments : mapping of str to object
        Further ones of `bnlib.doctor.examine`.
    loop : callable, optional
        Training to be watched; then the model is not examined but `bnlib.doctor.watch` looks on.
    optimizer : torch.optim.Optimizer, optional
        That of the loop.
    """

    model: nn.Module
    batches: list[Any] | None = None
    arguments: Mapping[str, Any] = MappingProxyType({})
    loop: Callable[[], object] | None = None
    optimizer: Any = None


class Fault(NamedTuple):
    """A mistake, planted in one kind of network.

    Attributes
    ----------
    rule : str
        What is to find it.
    kind : type of torch.nn.Module
        Network that it is planted in.
    make : callable
        ``make(kind, faulty)`` returns the `Case`, or its healthy twin.
    processes : int
        In how many it happens.
    """

    rule: str
    kind: type[nn.Module]
    make: Callable[[type[nn.Module], bool], Case]
    processes: int = 1

    @property
    def name(self) -> str:
        """The mistake and the network: ``large_momentum in ResNet``."""
        return f"{self.make.__name__} in {self.kind.__name__}"

    @property
    def story(self) -> str:
        """How people come to make the mistake."""
        return _sentences(self.make)[0]

    @property
    def remedy(self) -> str:
        """What they should do."""
        return _sentences(self.make)[1]

    def case(self, faulty: bool = True) -> Case:
        """Return the case, or its healthy twin."""
        return self.make(self.kind, faulty)


def _sentences(make: Callable[..., Case]) -> tuple[str, str]:
    story, _, remedy = re.sub(r"\s+", " ", make.__doc__ or "").partition(" Remedy: ")
    return story.strip(), remedy.strip()


FAULTS: list[Fault] = []

PATIENCE = 900.0
"""Seconds for several processes, on a machine that is busy."""


def plant(
    rule: str, *kinds: type[nn.Module], processes: int = 1
) -> Callable[[Callable[..., Case]], Callable[..., Case]]:
    """Note that a function plants a fault in these kinds of networks."""

    def note(make: Callable[..., Case]) -> Callable[..., Case]:
        FAULTS.extend(Fault(rule, kind, make, processes) for kind in kinds)
        return make

    return note


def look(case: Case) -> list[Any]:
    """Return what the doctor finds in a case."""
    from bnlib.doctor import examine, watch

    if case.loop is None:
        return list(examine(case.model, case.batches, **case.arguments).findings)
    with watch(case.model, case.optimizer) as record:
        case.loop()
    return list(record.report().findings)


def findings(fault: Fault, faulty: bool = True) -> list[Any]:
    """Return what the doctor finds of a fault, or in its healthy twin, in all its processes."""
    if fault.processes == 1:
        return look(fault.case(faulty))
    each = processes.launch(_look_again, fault.processes, fault.name, faulty, timeout=PATIENCE)
    return [finding for found in each for finding in found]


def _look_again(rank: int, name: str, faulty: bool) -> list[Any]:
    from benchmarks.doctor.faults import FAULTS

    return look(next(fault for fault in FAULTS if fault.name == name).case(faulty))
