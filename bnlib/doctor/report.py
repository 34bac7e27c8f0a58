"""The report: findings, the table of norms, and what could not be looked at."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import textwrap
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from bnlib.doctor import sarif
from bnlib.doctor.case import Case, either, needed
from bnlib.doctor.finding import SEVERITIES, Finding, counted, place
from bnlib.doctor.observe import NotPossibleError
from bnlib.doctor.registry import Rule, all_rules


class NormRow(NamedTuple):
    """A norm in the table of a report.

    Attributes
    ----------
    name, kind, mode : str
        ``mode`` is ``train``, ``eval``, ``frozen``, or empty for a state dict.
    values : int or None
        Fewest values per mean that were seen in train mode.
    rules : tuple of str
        The rules that found something there.
    """

    name: str
    kind: str
    mode: str
    values: int | None
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What the doctor found.

    Attributes
    ----------
    findings : tuple of Finding
        The worst first.
    norms : tuple of NormRow
        Each norm of the model.
    skipped : dict of str to str
        Rules that could not be checked, with what they would have needed.
    checked : tuple of str
        Rules that were.
    known : int
        Findings that `without` has left out.
    steps, passes : int or None
        Optimizer steps, and forward passes of the model, that `watch` has seen; None if it
        did not watch, or did not watch the optimizer.
    """

    findings: tuple[Finding, ...]
    norms: tuple[NormRow, ...]
    skipped: dict[str, str]
    checked: tuple[str, ...]
    known: int = 0
    steps: int | None = None
    passes: int | None = None

    def __str__(self) -> str:
        return "\n".join([*self._said(), *self._table(), *self._left_out()])

    @property
    def idle(self) -> bool:
        """Whether there are norms and no rule was checked, so that nothing could be found."""
        return bool(self.norms) and not self.checked

    def _said(self) -> Iterable[str]:
        counts = [(s, sum(f.severity == s for f in self.findings)) for s in reversed(SEVERITIES)]
        told = ", ".join(counted(n, s) for s, n in counts if n)
        told = told or ("nothing new" if self.known else "nothing found")
        known = f"; {counted(self.known, 'known finding')} left out" if self.known else ""
        norms = counted(len(self.norms), "norm") if self.norms else "no batch norm found in it"
        checked = f"{counted(len(self.checked), 'rule')} checked: {told}{known}"
        yield wrapped(f"{norms}, {'nothing was checked' if self.idle else checked}")
        if self.passes is not None:
            steps = "" if self.steps is None else f"{counted(self.steps, 'step')}, "
            hint = "" if self.passes else "; watch the module that the loop calls"
            passes = counted(self.passes, "forward pass")
            yield wrapped(f"Watched: {steps}{passes} of the model{hint}")
        for finding in self.findings:
            yield ""
            yield wrapped(
                f"{finding.severity}: {finding.rule} at {place(finding.where)}", rest="  "
            )
            yield wrapped(finding.message, "  ", "  ")
            yield wrapped(f"What to do: {finding.fix}", "  ", "  ")
            yield wrapped(f"More: {all_rules()[finding.rule].more}", "  ", "  ")

    def _table(self) -> Iterable[str]:
        rows = [row for row in self.norms if row.rules] or list(self.norms)
        shown = [
            (
                row.name or "the model itself",
                row.kind,
                row.mode,
                "" if row.values is None else str(row.values),
                ", ".join(row.rules),
            )
            for row in rows[:_ROWS]
        ]
        if not shown:
            return
        lines = [("module", "norm", "mode", "values per mean", "finding"), *shown]
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        widths[0] = min(widths[0], max(columns() - sum(widths[1:]) - 6, _SHORTEST))
        yield ""
        for name, *others, rules in lines:
            cells = [name if len(name) <= widths[0] else f"...{name[3 - widths[0] :]}", *others]
            row = "  ".join(t.ljust(w) for t, w in zip(cells, widths, strict=True))
            whole = f"{row}  {rules}".rstrip()
            fits = len(whole) <= columns()
            yield whole if fits else f"{row.rstrip()}\n{wrapped(rules, '    ', '    ')}"
        if left := len(self.norms) - len(shown):
            yield f"and {counted(left, 'more norm')}"

    def _left_out(self) -> Iterable[str]:
        if self.skipped:
            yield ""
        for want in dict.fromkeys(self.skipped.values()):
            names = [name for name, need in self.skipped.items() if need == want]
            yield wrapped(f"Not checked without {want}: {', '.join(names)}", rest="  ")

    def to_json(self) -> str:
        """Return the report as JSON; numbers that are not finite are strings.

        Returns
        -------
        str
        """
        content = {
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "norms": [row._asdict() for row in self.norms],
            "skipped": self.skipped,
            "checked": self.checked,
            "known": self.known,
            "steps": self.steps,
            "passes": self.passes,
        }
        return json.dumps(_finite(content), indent=1, allow_nan=False)

    def to_sarif(self, uri: str | None = None, line: int = 1) -> str:
        """Return the report in the Static Analysis Results Interchange Format 2.1.0.

        Parameters
        ----------
        uri : str, optional
            The file that makes the model, or holds the weights: the physical location of each
            finding, which sites for code scanning ask for.
        line : int
            Line of that file.

        Returns
        -------
        str
            JSON. Modules are logical locations; each rule comes with its help text, and each rule
            that could not be checked is a notification.
        """
        log = sarif.log(self.findings, self.skipped, uri, line)
        return json.dumps(_finite(log), indent=1, allow_nan=False)

    def at_least(self, severity: str) -> tuple[Finding, ...]:
        """Return the findings of a severity and of worse ones.

        Parameters
        ----------
        severity : str
            ``error``, ``warning`` or ``note``.

        Returns
        -------
        tuple of Finding

        Raises
        ------
        ValueError
            If `severity` is another word.
        """
        if severity not in SEVERITIES:
            raise ValueError(f"severity: expected one of {', '.join(SEVERITIES)}, got {severity!r}")
        worse = SEVERITIES[SEVERITIES.index(severity) :]
        return tuple(finding for finding in self.findings if finding.severity in worse)

    def without(self, known: Collection[Finding]) -> Report:
        """Return the report without findings that are known.

        Parameters
        ----------
        known : collection of Finding
            Of an earlier report. A finding of the same rule is known if it concerns no other
            modules and is not more severe.

        Returns
        -------
        Report
        """
        new = tuple(f for f in self.findings if not any(_covers(old, f) for old in known))
        rows = tuple(row._replace(rules=_rules_at(row.name, new)) for row in self.norms)
        left_out = self.known + len(self.findings) - len(new)
        return dataclasses.replace(self, findings=new, norms=rows, known=left_out)

    def raise_if(self, severity: str = "error") -> None:
        """Raise if there is a finding at least so severe, or if no rule could be checked.

        A model without norms has nothing to be checked and so never fails.

        Parameters
        ----------
        severity : str
            ``error``, ``warning`` or ``note``.

        Raises
        ------
        AssertionError
            With the report as its text.
        ValueError
            If `severity` is another word.
        """
        __tracebackhide__ = True  # pytest then shows the report and the line of the test
        if self.at_least(severity) or self.idle:
            raise AssertionError(str(self))


_ROWS = 30
"""Of the table as text; a longer one is not read."""


_SHORTEST = 20
"""Columns of a module's name in the table, however narrow the terminal is."""


def columns() -> int:
    """Return the width of the text: that of the terminal, 80 if there is none, at most 92."""
    return min(shutil.get_terminal_size().columns, 92)


def wrapped(text: str, first: str = "", rest: str = "") -> str:
    """Fill a paragraph to the width; `first` and `rest` are in front of its lines.

    Names and what stands between backticks stay whole, so that code can be copied.
    """
    whole = re.sub(r"`[^`]+`", lambda code: code[0].replace(" ", "\xa0"), text)
    return textwrap.fill(
        whole,
        columns(),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    ).replace("\xa0", " ")


def report_of(case: Case, chosen: dict[str, Rule]) -> Report:
    """Check a case by rules, of which those are skipped that lack what they need."""
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    for name, rule in chosen.items():
        missing = [needed(need) for need in rule.needs if not case.has.intersection(either(need))]
        if missing:
            skipped[name] = missing[0]
            continue
        try:
            findings += rule.findings(case)
        except NotPossibleError as reason:
            skipped[name] = str(reason)
    findings, record = _beside_causes(findings, chosen), case.record
    findings.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    return Report(
        tuple(findings),
        _rows(case, findings),
        skipped,
        tuple(name for name in chosen if name not in skipped),
        steps=record.steps if record and record.optimizer is not None else None,
        passes=record.passes if record else None,
    )


def _covers(old: Finding, new: Finding) -> bool:
    """Whether a finding says no more than an old one."""
    milder = SEVERITIES.index(new.severity) <= SEVERITIES.index(old.severity)
    return old.rule == new.rule and milder and {*new.where} <= {*old.where}


def _beside_causes(findings: list[Finding], chosen: dict[str, Rule]) -> list[Finding]:
    """Make a note of each finding that may follow from another one, which is to be mended first."""
    serious = {finding.rule for finding in findings if finding.severity != SEVERITIES[0]}
    found = []
    for finding in findings:
        causes = [cause for cause in chosen[finding.rule].causes if cause in serious]
        if causes:
            message = f"{finding.message} It may come from {' and '.join(causes)}: mend that first."
            finding = dataclasses.replace(finding, severity=SEVERITIES[0], message=message)
        found.append(finding)
    return found


def _rows(case: Case, findings: list[Finding]) -> tuple[NormRow, ...]:
    values = case.values()
    return tuple(
        NormRow(
            name,
            norm.kind,
            norm.mode,
            values.get(name),
            _rules_at(name, findings),
        )
        for name, norm in case.norms.items()
    )


def _rules_at(name: str, findings: Iterable[Finding]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f.rule for f in findings if name in f.where))


def _finite(value: Any) -> Any:
    """Return nested content in which each number is one that JSON knows."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value
