"""The rules by name: each is a file of `bnlib.doctor.rules`."""

from __future__ import annotations

import ast
import functools
import inspect
import pkgutil
import types
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module

from bnlib._validation import did_you_mean
from bnlib.doctor.case import NEEDS, Case, either
from bnlib.doctor.finding import SEVERITIES, Finding, Hit, code, filled

PARTS = ("SEVERITY", "NEEDS", "FIX", "CHAPTER", "check")
"""What a rule's file has to have, with a docstring."""


TITLES = {
    "backward_pass": "The backward pass",
    "beyond_one_machine": "Beyond one machine",
    "conventions": "Conventions",
    "debugging": "Batch norms that go wrong",
    "fine_tuning_and_freezing": "Fine-tuning and freezing",
    "forward_pass": "The forward pass",
    "inference": "Inference",
    "regularization": "Regularization",
    "questions#q-eval-or-no-grad": "eval() or no_grad()?",
    "questions#q-gan": "GAN: real and generated examples in one mini-batch or in two?",
    "questions#q-nan-statistics": "NaN in the running statistics, perhaps with mixed precision?",
    "questions#q-on-the-output": "May BN be the last layer, for example in a regression?",
    "questions#q-padding": "How do I keep padding out of the statistics?",
    "questions#q-two-forward-passes": (
        "Two forward passes before one backward pass: what goes wrong?"
    ),
    "questions#q-which-dimension": "BatchNorm1d or BatchNorm2d, and what about sequences?",
}
"""Headings of the book, by what rules have as their CHAPTER."""


@dataclass(frozen=True)
class Rule:
    """A rule: the parts of a module of `bnlib.doctor.rules`.

    Attributes
    ----------
    name : str
        Name of the file, with hyphens.
    summary, text : str
        First line of its docstring, and all of it: what is wrong, and why.
    severity : str
        ``error``, ``warning`` or ``note``, where a finding does not say another one.
    needs : tuple of str
        What it looks at: some of ``structure``, ``state``, ``forward``, ``backward``,
        ``optimizer``, ``watch``.
    fix : str
        What to do, with code between backticks. In it ``model`` is the model, ``loader`` its
        training data and ``finding`` the `Finding`, which tells names and numbers in their place.
    chapter : str
        File name, without its ending, of the page of the book that explains it, or
        ``questions#label`` for one of its questions.
    thresholds : dict of str to tuple
        Each with its value and the reason for it.
    check : callable
        Case -> iterator of hits.
    causes : tuple of str
        Rules whose faults bring this one about: beside a finding of theirs its own is a note.
    """

    name: str
    summary: str
    text: str
    severity: str
    needs: tuple[str, ...]
    fix: str
    chapter: str
    thresholds: dict[str, tuple[float, str]]
    check: Callable[[Case], Iterator[Hit]]
    causes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Heading of the chapter, or the question, that explains it."""
        return TITLES[self.chapter]

    @property
    def more(self) -> str:
        """Where to read more: the command, and a heading of the book."""
        command = f"python -m bnlib doctor --explain {self.name}"
        return f"{command}, and in the book \u2018{self.title}\u2019"

    def findings(self, case: Case) -> list[Finding]:
        """Check a case.

        Parameters
        ----------
        case : Case

        Returns
        -------
        list of Finding
        """
        return [
            Finding(
                self.name,
                each.severity or self.severity,
                each.where,
                each.message,
                dict(each.evidence),
                filled(each.fix or self.fix, each.where, each.evidence),
                self.chapter,
            )
            for each in self.check(case)
        ]


def all_rules() -> dict[str, Rule]:
    """Find the rules.

    Returns
    -------
    dict of str to Rule
        By name, in the order of the alphabet.

    Raises
    ------
    TypeError
        If a file of `bnlib.doctor.rules` lacks a part, or a threshold has no reason.

    Examples
    --------
    >>> from bnlib.doctor import all_rules
    >>> all_rules()["few-values"].needs
    ('forward or watch',)
    """
    return dict(_found())


@functools.cache
def _found() -> dict[str, Rule]:
    package = import_module("bnlib.doctor.rules")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    found = [rule_of(import_module(f"{package.__name__}.{name}")) for name in names]
    return {rule.name: rule for rule in found}


def rule_of(module: types.ModuleType) -> Rule:
    """Take the parts of a module; raise TypeError if it is no complete rule."""
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    missing = [part for part in PARTS if not hasattr(module, part)]
    if missing or not module.__doc__:
        raise TypeError(f"rule {name}: no {', '.join(missing) or 'docstring'}")
    if module.SEVERITY not in SEVERITIES:
        raise TypeError(f"rule {name}: SEVERITY is one of {', '.join(SEVERITIES)}")
    given = module.NEEDS if isinstance(module.NEEDS, tuple) else ("",)
    if not given or {each for need in given for each in either(need)} - NEEDS.keys():
        raise TypeError(
            f"rule {name}: NEEDS is a tuple of some of {', '.join(NEEDS)}, or of one 'or' another"
        )
    if module.CHAPTER not in TITLES:
        raise TypeError(f"rule {name}: CHAPTER is one of {', '.join(TITLES)}")
    if list(inspect.signature(module.check).parameters) != ["case"]:
        raise TypeError(f"rule {name}: expected check(case), got {module.check!r}")
    text = inspect.cleandoc(module.__doc__)
    return Rule(
        name,
        text.partition("\n")[0],
        text,
        module.SEVERITY,
        module.NEEDS,
        module.FIX,
        module.CHAPTER,
        _thresholds(module, name),
        module.check,
        tuple(getattr(module, "CAUSES", ())),
    )


def _thresholds(module: types.ModuleType, name: str) -> dict[str, tuple[float, str]]:
    """Return the numbers that the file sets, each with the string below it."""
    found = {}
    body = ast.parse(inspect.getsource(module)).body
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        constant = statement.targets[0].id
        value = getattr(module, constant)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        reason = below.value if isinstance(below, ast.Expr) else None
        if not isinstance(reason, ast.Constant) or not isinstance(reason.value, str):
            raise TypeError(f"rule {name}: {constant} has no reason in a string below it")
        found[constant] = (value, " ".join(reason.value.split()))
    return found


def chosen(select: Collection[str] | None, ignore: Collection[str]) -> dict[str, Rule]:
    """Return the selected rules, all for None, but those to ignore."""
    known = all_rules()
    for argument, names in (("select", select), ("ignore", ignore)):
        if names is not None:
            _check_names(argument, names, known)
    return {
        name: rule
        for name, rule in known.items()
        if (select is None or name in select) and name not in ignore
    }


def _check_names(argument: str, names: object, known: Collection[str]) -> None:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{argument}: expected a collection of names of rules, got {names!r}")
    for name in names:
        if name not in known:
            guess = did_you_mean(str(name), known)
            raise ValueError(f"{argument}: no rule {name!r}{guess}; there are: {', '.join(known)}")


_NAMES = (
    "In the code, model is your model, loader its training data, and finding one of "
    "report.findings; a report prints names and numbers in its place."
)


def explain(name: str) -> str:
    """Say what a rule looks for, why, by which thresholds, and what to do.

    Parameters
    ----------
    name : str
        Name of a rule, such as ``few-values``.

    Returns
    -------
    str
        Some paragraphs of plain text.

    Raises
    ------
    ValueError
        If there is no such rule; the message names the nearest one.

    Examples
    --------
    >>> from bnlib.doctor import explain
    >>> print(explain("large-momentum").partition(chr(10))[0])
    large-momentum (warning): the running statistics keep little but the last mini-batch.
    """
    _check_names("name", [name], all_rules())
    rule = all_rules()[name]
    limits = [f"{key} = {value:g}: {why}" for key, (value, why) in rule.thresholds.items()]
    first, _, rest = rule.text.partition("\n")
    return "\n\n".join(
        part
        for part in (
            f"{name} ({rule.severity}): {first[0].lower()}{first[1:]}",
            rest.strip(),
            *limits,
            f"It needs: {', '.join(rule.needs)}.",
            f"What to do: {rule.fix}.",
            _NAMES if code(rule.fix) else "",
            f"The book explains it in \u2018{rule.title}\u2019 ({rule.chapter}).",
        )
        if part
    )
