"""What ``python -m bnlib doctor`` does: load what it names, examine it, print the report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnlib._extras import require
from bnlib.doctor.examine import examine
from bnlib.doctor.finding import SEVERITIES
from bnlib.doctor.registry import all_rules, explain
from bnlib.doctor.report import Report

HEALTHY, FOUND, FAILED = 0, 1, 3
"""Exit codes: nothing so severe as asked for, a finding, a model that could not be examined. Wrong
usage is 2, as everywhere on the command line."""

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": str,
    "json": Report.to_json,
    "sarif": Report.to_sarif,
}


def run(options: argparse.Namespace) -> int:
    """Do what the command line says; usage errors are ValueError."""
    if options.explain is not None:
        print(explain(options.explain) if options.explain else _listed())
        return HEALTHY
    if options.target is None:
        raise ValueError("TARGET: expected package.module:name or a file of weights, got nothing")
    known = _known(options.baseline) if options.baseline else set()
    try:
        model = load(options.target)
        batches = _value(options.batches, "--batches") if options.batches else None
        report = examine(model, batches, select=options.select, ignore=options.ignore)
    except (ValueError, TypeError) as error:
        if getattr(error, "__notes__", None) is None:
            raise ValueError(str(error)) from error
        return _failed(error)
    except Exception as error:  # whatever a model or its module raises
        return _failed(error)
    report = report.without(known)
    print(FORMATS[options.format](report))
    limit = options.fail_on
    return FOUND if limit != "never" and report.at_least(limit) else HEALTHY


def load(target: str) -> nn.Module | Mapping[str, Tensor]:
    """Return the model, or the state dict, that a target names.

    Parameters
    ----------
    target : str
        ``package.module:name`` of a model or of a function that makes one, or a file of weights
        that ends in ``.pt``, ``.pth``, ``.bin`` or ``.safetensors``. Of a file only tensors are
        read, so that it cannot run code.

    Returns
    -------
    torch.nn.Module or mapping of str to Tensor

    Raises
    ------
    ValueError
        If there is nothing of that name, or it is no model.
    """
    path = Path(target)
    if path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
        if not path.is_file():
            raise ValueError(f"TARGET: no file {target}")
        return _state_dict(_read(path))
    found = _value(target, "TARGET")
    if not isinstance(found, nn.Module):
        raise ValueError(f"TARGET: expected a torch.nn.Module, got {type(found).__name__}")
    return found


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        require("safetensors", extra="doctor")
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _state_dict(content: Any) -> Mapping[str, Tensor]:
    """Return the state dict in what a file holds: the content, or the one entry that is one."""
    if isinstance(content, Mapping):
        if any(isinstance(value, Tensor) for value in content.values()):
            return {key: value for key, value in content.items() if isinstance(value, Tensor)}
        inner = {k: v for k, v in content.items() if isinstance(v, Mapping)}
        full = [v for v in inner.values() if any(isinstance(x, Tensor) for x in v.values())]
        if len(full) == 1:
            return _state_dict(full[0])
    raise ValueError("TARGET: the file holds no state dict, or several")


def _value(name: str, argument: str) -> Any:
    """Return what ``package.module:name`` is; of a function, what it returns."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"{argument}: expected package.module:name, got {name!r}")
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and lacks one itself
        raise ValueError(f"{argument}: no module {error.name!r} in {sys.path[0] or '.'}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{argument}: {module} has no {attribute!r}")
        found = getattr(found, part)
    if isinstance(found, nn.Module | Iterable) and not isinstance(found, type):
        return found
    return found() if callable(found) else found


def _known(path: Path) -> set[tuple[str, tuple[str, ...]]]:
    """Read the findings of an earlier report in JSON."""
    try:
        content = json.loads(path.read_text("utf8"))
        return {(each["rule"], tuple(each["where"])) for each in content["findings"]}
    except OSError as error:
        raise ValueError(f"--baseline: {error}") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"--baseline: {path} is no report of --format json") from None


def _failed(error: BaseException) -> int:
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    print(f"error: {type(error).__name__}: {error}{notes}", file=sys.stderr)
    return FAILED


def _listed() -> str:
    rules = all_rules().values()
    width = max(len(rule.name) for rule in rules)
    marks = {severity: severity.ljust(max(map(len, SEVERITIES))) for severity in SEVERITIES}
    return "\n".join(f"{r.name.ljust(width)}  {marks[r.severity]}  {r.summary}" for r in rules)
