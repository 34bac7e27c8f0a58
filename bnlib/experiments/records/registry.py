"""The experiments by name, and their results as JSON."""

from __future__ import annotations

import dataclasses
import inspect
import math
import pkgutil
import types
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bnlib.experiments.records.keys import unknown
from bnlib.experiments.records.verdict import Verdict, check_two_arms

_POSITIONAL, _KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY

PARTS = ("Config", "run", "Result", "judge")
"""What a module of `bnlib.experiments` has to have."""


def _check_norms(config: Any) -> None:
    if hasattr(config, "norms"):
        check_two_arms(config.norms)


class Experiment(NamedTuple):
    """An experiment: the parts of a module of `bnlib.experiments`.

    Attributes
    ----------
    name, summary : str
        Name of the module, and the first line of its docstring.
    config : type
        The dataclass of its sizes.
    run : callable
        ``(config, *, progress=False)`` -> result.
    judge : callable
        Result -> verdict, or mapping of str, or tuple of str, to verdict.
    check : callable
        Config -> None; raises ValueError if no result of the config could be judged. That of the
        module if it has one; else there have to be two norms, if the config has any.
    """

    name: str
    summary: str
    config: type
    run: Callable[..., Any]
    judge: Callable[[Any], Verdict | Mapping[str | tuple[str, ...], Verdict]]
    check: Callable[[Any], None] = _check_norms

    def check_config(self, config: Any) -> None:
        """Raise ValueError if no result of this config could be judged."""
        if config.seeds < 2:
            raise ValueError(f"seeds: expected at least 2, got {config.seeds}")
        self.check(config)

    def verdicts(self, result: Any) -> dict[str | tuple[str, ...], Verdict]:
        """Judge a result; a single verdict has the name of the experiment."""
        judged = self.judge(result)
        return {self.name: judged} if isinstance(judged, Verdict) else dict(judged)


def all_experiments() -> dict[str, Experiment]:
    """Find the experiments.

    Returns
    -------
    dict of str to Experiment
        By name, in the order of the alphabet.

    Raises
    ------
    TypeError
        If a module lacks one of `PARTS`, its Config is no dataclass, or its `run` has another
        signature than ``run(config, *, progress=False)``.

    Examples
    --------
    >>> from bnlib.experiments.records.registry import all_experiments
    >>> all_experiments()["conditioning"].config().seeds
    16
    """
    modules = pkgutil.iter_modules([str(Path(__file__).parents[1])])
    names = sorted(module.name for module in modules if not module.ispkg)
    return {name: _experiment(import_module(f"bnlib.experiments.{name}")) for name in names}


def _experiment(module: types.ModuleType) -> Experiment:
    """Take the parts of a module; raise TypeError if it is no complete experiment."""
    name = module.__name__.rpartition(".")[2]
    if missing := [part for part in PARTS if not hasattr(module, part)]:
        raise TypeError(f"experiment {name}: expected {', '.join(PARTS)}; no {', '.join(missing)}")
    if not dataclasses.is_dataclass(module.Config):
        raise TypeError(f"experiment {name}: expected a dataclass Config, got {module.Config!r}")
    parameters = [(p.name, p.kind) for p in inspect.signature(module.run).parameters.values()]
    if parameters != [("config", _POSITIONAL), ("progress", _KEYWORD)]:
        raise TypeError(
            f"experiment {name}: expected run(config, *, progress=False), "
            f"got run{inspect.signature(module.run)}"
        )
    summary = (module.__doc__ or "").partition("\n")[0]
    check = getattr(module, "check", _check_norms)
    return Experiment(name, summary, module.Config, module.run, module.judge, check)


def find(name: str) -> Experiment:
    """Find an experiment by its name.

    Parameters
    ----------
    name : str

    Returns
    -------
    Experiment

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    known = all_experiments()
    if name not in known:
        raise ValueError(unknown("experiment", name, known))
    return known[name]


def to_json(value: Any) -> Any:
    """Turn a config, a result or a verdict into what JSON knows.

    Parameters
    ----------
    value : object
        Numbers, strings, None, arrays, and dataclasses, mappings and sequences of them.

    Returns
    -------
    object
        Arrays are nested lists, a key that is a tuple is joined by slashes, and numbers that are
        not finite are None (null), as JSON has none.

    Raises
    ------
    TypeError
        If something else occurs.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.experiments.records.registry import to_json
    >>> to_json({("batch", None): np.array([[1.0], [np.nan]])})
    {'batch/none': [[1.0], [None]]}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_json_key(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    raise TypeError(f"value: expected numbers, strings, arrays or a dataclass, got {value!r}")


def _json_key(key: Any) -> str:
    parts = key if isinstance(key, tuple) else (key,)
    return "/".join("none" if part is None else str(part) for part in parts)
