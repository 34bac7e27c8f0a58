"""The experiments by name, their configs from text, and their results as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import pkgutil
import re
import types
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np

from bnlib.experiments.records.verdict import Verdict

_POSITIONAL, _KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY

PARTS = ("Config", "run", "Result", "judge")
"""What a module of `bnlib.experiments` has to have."""


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
    """

    name: str
    summary: str
    config: type
    run: Callable[..., Any]
    judge: Callable[[Any], Verdict | Mapping[str | tuple[str, ...], Verdict]]

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
    return Experiment(name, summary, module.Config, module.run, module.judge)


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
        raise ValueError(_unknown("experiment", name, known))
    return known[name]


def parse_setting(config: type, text: str) -> tuple[str, Any]:
    """Read ``key=value``, with the value in the type of that field of a config.

    Parameters
    ----------
    config : type
        A dataclass.
    text : str
        The entries of a tuple are separated by commas; None is ``none``. In a tuple of text, a
        comma with a space after it belongs to the entry.

    Returns
    -------
    key : str
    value : object

    Raises
    ------
    ValueError
        If the form is another, there is no such field, or the value is not of its type.

    Examples
    --------
    >>> from bnlib.experiments.inference import Config
    >>> from bnlib.experiments.records.registry import parse_setting
    >>> parse_setting(Config, "momenta=0.1,none")
    ('momenta', (0.1, None))
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r}: expected key=value")
    hints = get_type_hints(config)
    known = {field.name: hints[field.name] for field in dataclasses.fields(config)}
    if key not in known:
        raise ValueError(_unknown("key", key, known))
    try:
        return key, _parse(known[key], value)
    except ValueError:
        raise ValueError(f"{key}: expected {_describe(known[key])}, got {value!r}") from None


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


def _parse(kind: Any, text: str) -> Any:
    """Read a value of a type; raise ValueError if it is none."""
    origin, members = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _first(members, text)
    if origin is tuple:
        comma = ",(?! )" if members[0] is str else ","  # names such as "ReLU, He" have commas
        return tuple(_parse(members[0], each.strip()) for each in re.split(comma, text) if each)
    if origin is Literal:
        return text if text in members else _fail()
    if kind is type(None):
        return None if text.lower() == "none" else _fail()
    if kind is bool:
        return text.lower() == "true" if text.lower() in ("true", "false") else _fail()
    return kind(text)  # int, float, str


def _first(kinds: Iterable[Any], text: str) -> Any:
    """Read a value of the first type that it fits."""
    for kind in kinds:
        try:
            return _parse(kind, text)
        except ValueError:
            continue
    return _fail()


def _fail() -> Any:
    raise ValueError


def _describe(kind: Any) -> str:
    origin, members = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, members))
    if origin is tuple:
        return f"{_describe(members[0])}, and more of it after commas"
    if origin is Literal:
        return f"one of {', '.join(map(str, members))}"
    if kind is bool:
        return "true or false"
    names = {int: "a whole number", float: "a number", str: "text", type(None): "none"}
    return names.get(kind, str(kind))


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown {what} {name!r}{guess}; there are: {', '.join(known)}"
