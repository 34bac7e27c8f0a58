"""What ``python -m bnlib doctor`` does: load what it names, examine it, print the report."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import Tensor, nn

from bnlib.doctor.examine import examine
from bnlib.doctor.finding import Finding
from bnlib.doctor.registry import all_rules, explain
from bnlib.doctor.report import wrapped
from bnlib.doctor.weights import state_dict

HEALTHY, FOUND, FAILED = 0, 1, 3
"""Exit codes: nothing so severe as asked for, a finding, a model that could not be examined. Wrong
usage is 2, as everywhere on the command line; a call that leaves nothing to check is wrong."""


def run(options: argparse.Namespace) -> int:
    """Do what the command line says; usage errors are ValueError."""
    if options.explain is not None:
        _print(_explained(options.explain) if options.explain else _listed())
        return HEALTHY
    if options.target is None:
        raise ValueError("TARGET: expected package.module:name or a file of weights, got nothing")
    known = _known(options.baseline) if options.baseline else []
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the user's module prints is no report
            model = load(options.target, options.weights)
            batches = _value(options.batches, "--batches") if options.batches else None
            report = examine(model, batches, select=options.select, ignore=options.ignore)
    except (ValueError, TypeError) as error:
        if getattr(error, "__notes__", None) is None:
            raise ValueError(str(error)) from error
        return _failed(error)
    except Exception as error:  # whatever a model or its module raises
        return _failed(error)
    report = report.without(known)
    if options.format == "sarif":
        _print(report.to_sarif(*_source(options.target)))
    else:
        _print(report.to_json() if options.format == "json" else str(report))
    if report.idle:
        raise ValueError("no rule could be checked; the report says what each would need")
    limit = options.fail_on
    return FOUND if limit != "never" and report.at_least(limit) else HEALTHY


def load(target: str, weights: str | None = None) -> nn.Module | Mapping[str, Tensor]:
    """Return the model, or the state dict, that a target names.

    Parameters
    ----------
    target : str
        ``package.module:name`` of a model or of a function that makes one, or a file of weights.
        Of a file only tensors are read, so that it cannot run code.
    weights : str, optional
        A file of weights for the model of the function.

    Returns
    -------
    torch.nn.Module or mapping of str to Tensor

    Raises
    ------
    ValueError
        If there is nothing of that name, it is no model, or the weights do not fit.
    """
    if Path(target).is_file():
        if weights is not None:
            raise ValueError("--weights: expected package.module:name as TARGET, got a file")
        return state_dict(target, "TARGET")
    if ":" not in target:
        raise ValueError(
            f"TARGET: expected package.module:name or a file of weights; there is no file {target}"
        )
    found = _value(target, "TARGET")
    if not isinstance(found, nn.Module):
        raise ValueError(f"TARGET: expected a torch.nn.Module, got {type(found).__name__}")
    if weights is not None:
        try:
            found.load_state_dict(state_dict(weights, "--weights"))
        except RuntimeError as error:  # missing and unexpected keys, other shapes
            raise ValueError(f"--weights: {error}") from None
    return found


def _value(name: str, argument: str) -> Any:
    """Return what ``package.module:name`` is; of a function, what it returns."""
    found = _named(name, argument)
    if isinstance(found, nn.Module | Iterable) and not isinstance(found, type):
        return found
    return found() if callable(found) else found


def _named(name: str, argument: str) -> Any:
    """Return what ``package.module:name`` is."""
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
    return found


def _source(target: str) -> tuple[str, int]:
    """Return the file, as a URI, and the line of what a target names."""
    file, line = target, 1
    if not Path(target).is_file():
        found = inspect.unwrap(_named(target, "TARGET"))
        try:
            file, line = inspect.getfile(found), inspect.getsourcelines(found)[1]
        except (TypeError, OSError):  # a model, or what is not written in Python
            module = sys.modules[target.partition(":")[0]]
            file = getattr(module, "__file__", None) or target
    path = Path(file).resolve()
    if path.is_relative_to(Path.cwd()):
        return quote(path.relative_to(Path.cwd()).as_posix()), line
    return path.as_uri(), line


def _known(path: Path) -> list[Finding]:
    """Read the findings of an earlier report in JSON."""
    try:
        content = json.loads(path.read_text("utf8"))
        return [Finding(**each | {"where": tuple(each["where"])}) for each in content["findings"]]
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
    return "\n".join(wrapped(f"{r.name} ({r.severity}): {r.summary}", rest="    ") for r in rules)


def _explained(name: str) -> str:
    return "\n\n".join(map(wrapped, explain(name).split("\n\n")))


def _print(text: str) -> None:
    """Print to a reader that may go away early, as ``head`` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Python flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
