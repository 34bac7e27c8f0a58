"""The keys of a config: their meaning, and their values to and from text."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from bnlib._validation import did_you_mean

_AS_IN = re.compile(r"As in (?::class:)?`([\w.]+)\.Config`\.?")
_ROLE = re.compile(r"(?::[\w:]+:)?`+([^`]*)`+")


class Key(NamedTuple):
    """What can be set of a config.

    Attributes
    ----------
    name : str
    default : str
        In the form in which `parse_setting` takes it.
    kind : str
        What values it takes.
    meaning : str
        From the docstring of the config; several keys may share one.
    """

    name: str
    default: str
    kind: str
    meaning: str


def describe(config: type) -> list[Key]:
    """List the keys of a config, with their meaning from its docstring.

    Parameters
    ----------
    config : type
        A dataclass that has a default for each field. Where its docstring says "As in
        `networks.Config`", the meaning is the one that it has there.

    Returns
    -------
    list of Key

    Examples
    --------
    >>> from bnlib.experiments.inference import Config
    >>> from bnlib.experiments.records.keys import describe
    >>> describe(Config)[0].kind, describe(Config)[0].default
    ('one of batch, none', 'batch')
    """
    hints, meanings, default = get_type_hints(config), _meanings(config), config()
    return [
        Key(
            field.name,
            write_value(getattr(default, field.name)),
            _kind(hints[field.name]),
            meanings.get(field.name, ""),
        )
        for field in dataclasses.fields(config)
    ]


def changed(config: Any) -> dict[str, Any]:
    """Return the fields of a config that are not as by default."""
    default = vars(type(config)())
    return {k: v for k, v in vars(config).items() if v != default[k]}


def write_value(value: Any) -> str:
    """Write a value in the form in which `parse_setting` takes it."""
    return ",".join(map(write_value, value)) if isinstance(value, tuple) else str(value)


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
    >>> from bnlib.experiments.records.keys import parse_setting
    >>> parse_setting(Config, "momenta=0.1,none")
    ('momenta', (0.1, None))
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r}: expected key=value")
    hints = get_type_hints(config)
    known = {field.name: hints[field.name] for field in dataclasses.fields(config)}
    if key not in known:
        raise ValueError(unknown("key", key, known))
    try:
        return key, _parse(known[key], value)
    except ValueError:
        raise ValueError(f"{key}: expected {_kind(known[key])}, got {value!r}") from None


def _parse(kind: Any, text: str) -> Any:
    """Read a value of a type; raise ValueError if it is none."""
    origin, members = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _first(members, text)
    if origin is tuple:
        named = members[0] is str or any("," in str(name) for name in get_args(members[0]))
        comma = ",(?! )" if named else ","  # names such as "ReLU, He" have commas
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


def _kind(kind: Any) -> str:
    origin, members = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_kind, members))
    if origin is tuple and get_origin(members[0]) is Literal:
        return f"some of {', '.join(map(str, get_args(members[0])))}, with commas between"
    if origin is tuple:
        return f"{_kind(members[0])}, and more of it after commas"
    if origin is Literal:
        return f"one of {', '.join(map(str, members))}"
    if kind is bool:
        return "true or false"
    names = {int: "a whole number", float: "a number", str: "text", type(None): "none"}
    return names.get(kind, str(kind))


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no such name, and which there are."""
    return f"unknown {what} {name!r}{did_you_mean(name, known)}; there are: {', '.join(known)}"


def _meanings(config: type) -> dict[str, str]:
    """Read the section Attributes of a docstring."""
    meanings = {}
    for names, text in _entries(inspect.getdoc(config) or ""):
        for name in names:
            other = _AS_IN.match(text)
            if other:
                module = other[1].removeprefix("bnlib.experiments.")
                there = _meanings(import_module(f"bnlib.experiments.{module}").Config)
                meanings[name] = there[name] + text[other.end() :]
            else:
                meanings[name] = _ROLE.sub(r"\1", text)
    return meanings


def _entries(docstring: str) -> Iterator[tuple[list[str], str]]:
    """Yield the names and the text of each entry of the section Attributes."""
    section = re.search(r"^Attributes\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", docstring, re.M | re.S)
    for entry in re.split(r"\n(?=\S)", section[1].strip()) if section else ():
        header, _, text = entry.partition("\n")
        yield header.partition(" :")[0].split(", "), " ".join(text.split())
