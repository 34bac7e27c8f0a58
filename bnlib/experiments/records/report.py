"""Experiments, their keys and their verdicts as text for a terminal."""

from __future__ import annotations

import inspect
import shlex
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from bnlib.experiments.records import keys
from bnlib.experiments.records.registry import Experiment
from bnlib.experiments.records.verdict import Verdict, case_name, overall

INDENT = "    "
WIDEST = 100  # columns: longer lines are hard to read


class Run(NamedTuple):
    """A config, and what became of it.

    Attributes
    ----------
    config : dataclass instance
    verdicts : mapping of str, or tuple of str, to Verdict
        Empty if it failed.
    error : str
        Why it failed; else empty.
    """

    config: Any
    verdicts: Mapping[str | tuple[str, ...], Verdict]
    error: str = ""


def listing(experiment: Experiment) -> str:
    """Write the summary of an experiment and all its keys, with their defaults."""
    listed = (shlex.quote(f"{k.name}={k.default}") for k in keys.describe(experiment.config))
    return f"{wrap(f'{experiment.name}: {experiment.summary}')}\n{wrap(' '.join(listed), 1)}"


def description(experiment: Experiment) -> str:
    """Write what an experiment is, and for each key its default, its values and its meaning."""
    doc = inspect.getdoc(experiment.config) or ""
    explained = " ".join(doc.partition("Attributes\n---")[0].partition("\n")[2].split())
    judged = (inspect.getdoc(experiment.judge) or "").partition("\n")[0]
    blocks = [wrap(f"{experiment.name}: {experiment.summary}"), wrap(judged)]
    blocks += [wrap(explained.replace("`", ""))] if explained else []
    for meaning, group in groupby(keys.describe(experiment.config), lambda key: key.meaning):
        heads = [wrap(f"{shlex.quote(f'{k.name}={k.default}')}  ({k.kind})") for k in group]
        blocks.append("\n".join([*heads, wrap(meaning, 1)]))
    return "\n\n".join(blocks)


def name(experiment: Experiment, config: Any) -> str:
    """Name a config by what differs from the default, as the command line takes it."""
    changed = (f"{k}={keys.write_value(v)}" for k, v in keys.changed(config).items())
    return " ".join([experiment.name, *map(shlex.quote, changed)])


def verdicts(experiment: Experiment, run: Run) -> str:
    """Write the verdicts on one config; a claim that several cases have stands once."""
    lines = [wrap(name(experiment, run.config))]
    arms = getattr(run.config, "norms", ())
    if len(arms) > 1 and arms != experiment.config().norms:
        lines.append(wrap(f"Here the control is {arms[0]} and the treatment {arms[1]}.", 1))
    for (claim, source), cases in groupby(
        run.verdicts.items(), lambda case: (case[1].claim, case[1].source)
    ):
        lines.append(wrap(f"{claim} Source: {source}.", 1))
        lines += [wrap(f"{case_name(case)}: {_answer(verdict)}", 2) for case, verdict in cases]
    return "\n".join(lines)


def table(runs: Sequence[Run]) -> str:
    """Write the verdict on each case by the settings that were swept.

    Parameters
    ----------
    runs : sequence of Run
        Of different configs of one experiment.

    Returns
    -------
    str
        For each case its answer over all settings, and a row a setting.
    """
    swept, values = _swept(runs)
    by_case = _by_case(runs)
    rows = [(*swept, "answer", "effect")]
    heads = {}
    for case in dict.fromkeys(case for each in by_case for case in each):
        judged = {v: each[case] for v, each in zip(values, by_case, strict=True) if case in each}
        whole = overall(judged, *(f"the {key}" for key in swept))
        heads[len(rows)] = f"{case_name(case) or 'verdict'}: {whole}"
        rows += [(*value, each.answer, each.in_numbers()) for value, each in judged.items()]
    failed = [(*v, "failed", "") for v, run in zip(values, runs, strict=True) if run.error]
    if failed:
        heads[len(rows)] = "not judged:"
    return "\n".join(_aligned([*rows, *failed], heads))


def rows(runs: Sequence[Run]) -> dict[str, Verdict]:
    """Name each verdict by its case and, if there are several configs, by the settings.

    Parameters
    ----------
    runs : sequence of Run
        Of different configs of one experiment.

    Returns
    -------
    dict of str to Verdict
        Those of a case one after the other.
    """
    swept, values = _swept(runs)
    by_case = _by_case(runs)
    named = {}
    for case in dict.fromkeys(case for each in by_case for case in each):
        for value, each in zip(values, by_case, strict=True):
            if case in each:
                setting = ", ".join(f"{k}={v}" for k, v in zip(swept, value, strict=True))
                named["; ".join(filter(None, (case_name(case), setting)))] = each[case]
    return named


def _swept(runs: Sequence[Run]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the keys that differ between the configs, and their values in each."""
    fields = [vars(run.config) for run in runs]
    swept = [key for key in fields[0] if len({each[key] for each in fields}) > 1]
    return swept, [tuple(keys.write_value(each[key]) for key in swept) for each in fields]


def _by_case(runs: Sequence[Run]) -> list[dict[str | tuple[str, ...], Verdict]]:
    """Return the verdicts of each run, without the parts of their keys that repeat what was set."""
    cases = [[*run.verdicts] for run in runs if run.verdicts]
    every = [key for each in cases for key in each]
    if len({len(key) if isinstance(key, tuple) else 0 for key in every}) != 1:
        return [dict(run.verdicts) for run in runs]
    parts = range(len(every[0]) if isinstance(every[0], tuple) else 0)
    repeated = {
        i
        for i in parts
        if len({key[i] for key in every}) > 1
        and all(len({key[i] for key in each}) == 1 for each in cases)
    }
    if not repeated:
        return [dict(run.verdicts) for run in runs]
    kept = [i for i in parts if i not in repeated]
    return [
        {tuple(key[i] for i in kept): verdict for key, verdict in run.verdicts.items()}
        for run in runs
    ]


def _aligned(rows: Sequence[tuple[str, ...]], heads: Mapping[int, str]) -> list[str]:
    """Align the columns; heads stand, without indent, before the rows of these numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for i, row in enumerate(rows):
        lines += [heads[i]] if i in heads else []
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(INDENT + "  ".join(cells).rstrip())
    return lines


def _answer(verdict: Verdict) -> str:
    numbers = verdict.in_numbers()
    known = "" if numbers == verdict.reason else "effect "
    rest = f"margin {verdict.margin:.3g}, {verdict.seeds} seeds"
    return f"{verdict.answer}: {known}{numbers}, {rest}"


def wrap(text: str, indents: int = 0) -> str:
    """Break a line where the terminal ends, or before."""
    width = min(shutil.get_terminal_size((WIDEST, 1)).columns, WIDEST)
    first = INDENT * indents
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=first if indents == 1 else first + INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
