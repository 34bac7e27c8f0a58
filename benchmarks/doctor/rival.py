"""The same faults before torch-audit, the best other tool that we know; it is optional.

Version 0.3.0, see requirements-architectures.txt. Its `autopatch` looks at the model, the
optimizer and every step of a training. A fault counts as found if a rule about it fires that does
not fire for the healthy twin; whatever fires for the twin is a false alarm, but for hints on speed.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from importlib import util
from typing import Any

import torch

from benchmarks.doctor.case import Case, Fault
from benchmarks.doctor.networks import loss_of

ABOUT: dict[str, set[str]] = {
    "nonfinite-statistics": {"TA100"},
    "few-values": {"TA304"},
    "accumulated-gradients": {"TA304"},
    "decayed-norm": {"TA402"},
    "idle-bias": {"TA400"},
    "several-streams": {"TA501"},
    "updated-twice": {"TA501"},
    "two-forwards": {"TA501"},
    "dead-channel": {"TA103", "TA105", "TA302"},
    "tiny-scale": {"TA103", "TA104", "TA105"},
    "wrong-layout": {"TA303"},
    "shifted-input": {"TA301", "TA305"},
    "far-from-zero": {"TA301", "TA305"},
    "padding-in-statistics": {"TA302"},
}
"""Which of its rules are about a fault, read generously; it has none about the others."""


def is_installed() -> bool:
    return util.find_spec("torch_audit") is not None


def compare(fault: Fault) -> dict[str, Any]:
    """Put a fault and its healthy twin before torch-audit.

    Returns
    -------
    dict
        ``found``, ``fired`` and ``alarms`` (for the twin).
    """
    if fault.processes > 1:
        return {"found": False, "fired": [], "alarms": [], "why": "it looks at one process"}
    fired, alarms = alarms_of(fault.case(True)), alarms_of(fault.case(False))
    about = ABOUT.get(fault.rule, set())
    found = bool((fired - alarms) & about)
    return {"found": found, "fired": sorted(fired), "alarms": sorted(alarms)}


def alarms_of(case: Case) -> set[str]:
    """Return the rules of torch-audit that fire, other than on speed and for information."""
    from torch_audit import autopatch

    if not isinstance(case.model, torch.nn.Module):
        return set()
    optimizer = case.optimizer or case.arguments.get("optimizer") or _still(case)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        auditor = autopatch(
            case.model, optimizer=optimizer, every_n_steps=1, run_static=True, run_init=True
        )
        try:
            (case.loop or _plain(case, optimizer))()
            result = auditor.finish(report=False)
        finally:
            auditor.unpatch()
    return {
        finding.rule_id
        for finding in result.findings
        if result.rules[finding.rule_id].category != "Performance"
        and str(finding.severity.name) != "INFO"
    }


def _still(case: Case) -> torch.optim.Optimizer:
    """Return an optimizer that hardly moves."""
    return torch.optim.SGD([p for p in case.model.parameters() if p.requires_grad], 1e-6)


def _plain(case: Case, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return a loop: a pass in the mode that the model is in, then a training."""
    loss = case.arguments.get("loss")
    show = case.arguments.get("forward") or (lambda model, batch: model(batch[0]))

    def loop() -> None:
        for batch in case.batches or []:
            with torch.no_grad():
                show(case.model, batch)
        case.model.train()
        for batch in case.batches or []:
            optimizer.zero_grad()
            output = show(case.model, batch)
            output = output if isinstance(output, torch.Tensor) else torch.cat(list(output))
            (loss or _any_loss)(output, batch).backward()
            optimizer.step()

    return loop


def _any_loss(output: torch.Tensor, batch: Any) -> torch.Tensor:
    if len(batch) > 1 and output.shape[0] == batch[1].shape[0] and output.ndim > 1:
        return loss_of(output.float(), batch)
    return output.float().square().mean()
