"""What a rule says of a model: a hit, and the finding that the report makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

SEVERITIES = ("note", "warning", "error")
"""From the mildest: good to know, probably a fault, certainly a fault."""

Number = float | int | str | bool | None


class Hit(NamedTuple):
    """What a rule yields; what is None is that of the rule's file. Made by `hit`."""

    where: tuple[str, ...]
    message: str
    evidence: Mapping[str, Number]
    severity: str | None
    fix: str | None


def hit(
    where: str | Iterable[str],
    message: str,
    *,
    severity: str | None = None,
    fix: str | None = None,
    **evidence: Number,
) -> Hit:
    """Return what a rule yields for one cause.

    Parameters
    ----------
    where : str or iterable of str
        Names of the modules; "" is the model itself. One cause in many norms is one hit.
    message : str
        What was measured, with its number, in a sentence.
    severity, fix : str, optional
        Where they are not those of the rule.
    **evidence
        The numbers that prove it, by name.
    """
    names = (where,) if isinstance(where, str) else tuple(where)
    if not names or not evidence:
        raise ValueError("a hit needs the name of a module and a number that proves it")
    if severity not in (None, *SEVERITIES):
        raise ValueError(f"severity: expected one of {', '.join(SEVERITIES)}, got {severity!r}")
    return Hit(names, message, evidence, severity, fix)


@dataclass(frozen=True)
class Finding:
    """One fault, with the number that proves it and what to do about it.

    Attributes
    ----------
    rule : str
        Name of the rule, such as ``few-values``.
    severity : str
        ``error``, ``warning`` or ``note``.
    where : tuple of str
        Names of the modules concerned; ``""`` is the model itself.
    message : str
        What was measured.
    evidence : mapping of str to number
        The numbers, by name.
    fix : str
        What to call or to write.
    chapter : str
        File name, without its ending, of the page of the book that explains it, or
        ``questions#label`` for one of its questions.
    """

    rule: str
    severity: str
    where: tuple[str, ...]
    message: str
    evidence: Mapping[str, Number]
    fix: str
    chapter: str


SHORT = 50
"""Characters of the names that a fix prints; it refers to more of them by ``finding.where``."""


def filled(fix: str, where: tuple[str, ...], evidence: Mapping[str, Number]) -> str:
    """Return a fix with the names and the numbers of its finding, so that its code can be run.

    Rules write ``finding.where`` and ``finding.evidence['momentum']``.
    """
    names = repr(list(where))
    if len(names) <= SHORT:
        fix = fix.replace("finding.where", names)
    elif "finding.where" in fix:
        fix += f" (finding.where: {counted(len(where), 'name')}, in JSON under 'where')"
    return re.sub(r"finding\.evidence\['(\w+)'\]", lambda key: f"{evidence[key[1]]:g}", fix)


def code(fix: str) -> list[str]:
    """Return the parts of a fix between backticks: Python that runs as it is printed."""
    return re.findall(r"`([^`]+)`", fix)


def above(values: Mapping[str, float], limit: float) -> list[str]:
    """Return the names with a value above the limit, the largest first."""
    return sorted((n for n in values if values[n] > limit), key=lambda name: -values[name])


def counted(number: int, noun: str) -> str:
    """Return ``1 norm``, ``20 norms`` or ``2 passes``."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{plural}"


def place(names: tuple[str, ...]) -> str:
    """Return ``"bn1"``, or ``"bn1" and 19 more``; the root of a model has no name of its own."""
    first = f'"{names[0]}"' if names[0] else "the model itself"
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
