"""What was found over many settings of a claim: a JSON file with one cell a setting.

Unlike the cache of results it does not depend on the source of the library, as it takes hours to
fill: a test runs some cells again and compares.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bnlib.experiments.records.cache import write_atomically
from bnlib.experiments.records.verdict import DEPENDS, Verdict, overall

FOLDER = Path("book", "_data", "multiverse")
"""Where the stores are, in a clone of the repository."""

MATRIX = FOLDER.with_name("matrix")
"""Where those of the ablation of norms are."""

STORED = [field.name for field in fields(Verdict) if field.name not in ("claim", "source")]
"""What is kept of a verdict; whose claim it is, the name of the file says."""


class Cell(NamedTuple):
    """A setting and what was found there.

    Attributes
    ----------
    setting : dict of str to str
        Axis -> level.
    fields : dict
        Fields of `Config` that are not its defaults, as JSON has them.
    verdicts : dict of tuple of str to Verdict
        By case; empty if there is a reason why not.
    reason : str
        Why the setting could not be run or judged; else empty.
    made : dict
        Date, seconds, kind of processor, and versions.
    """

    setting: dict[str, str]
    fields: dict[str, Any]
    verdicts: dict[tuple[str, ...], Verdict]
    reason: str
    made: dict[str, Any]


class Store(NamedTuple):
    """What is known of a claim.

    Attributes
    ----------
    factors : tuple of str
        What the entries of the key of a case stand for.
    cells : list of Cell
    """

    factors: tuple[str, ...]
    cells: list[Cell]

    def verdicts(self) -> dict[tuple[str, ...], Verdict]:
        """Return all verdicts, by the level of each axis and of each factor of the cases."""
        return {
            (*cell.setting.values(), *case): verdict
            for cell in self.cells
            for case, verdict in cell.verdicts.items()
        }

    def answer(self) -> str:
        """Return the answer over all settings, as `overall` does.

        Where it depends on more than three of them, it "depends on the setting".
        """
        verdicts = self.verdicts()
        if not verdicts:
            return "cannot tell"
        answer = overall(verdicts, *self.cells[0].setting, *self.factors)
        return answer if answer.count(" and ") < 3 else f"{DEPENDS} the setting"

    def counts(self) -> dict[str, int]:
        """Count the answers, the most frequent one first; "not judged" for cells with a reason."""
        answers = [
            "it depends" if verdict.answer.startswith(DEPENDS) else verdict.answer
            for verdict in self.verdicts().values()
        ]
        failed = ["not judged" for cell in self.cells if cell.reason]
        return dict(Counter(answers + failed).most_common())


def load(path: Path) -> Store | None:
    """Read a store; None if there is none.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Store or None

    Raises
    ------
    ValueError
        If the file is no store.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf8"))
        cells = [Cell(**{**cell, "verdicts": _verdicts(cell)}) for cell in content["cells"]]
        return Store(tuple(content["factors"]), cells)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a store of a multiverse, got {error!r}") from error


def save(path: Path, store: Store) -> None:
    """Write the store of a claim, a line a cell; infinite numbers are the words inf and -inf.

    Parameters
    ----------
    path : Path
    store : Store
    """
    lines = []
    for cell in store.cells:
        verdicts = [
            {"case": case, **{k: _number(v) for k, v in asdict(each).items() if k in STORED}}
            for case, each in cell.verdicts.items()
        ]
        lines.append(json.dumps({**cell._asdict(), "verdicts": verdicts}, allow_nan=False))
    text = '{\n"factors": %s,\n"cells": [\n%s\n]\n}\n'
    content = text % (json.dumps(store.factors), ",\n".join(lines))
    write_atomically(path, content.encode())


def _number(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _verdicts(cell: Mapping[str, Any]) -> dict[tuple[str, ...], Verdict]:
    numbers = ("effect", "low", "high", "margin")
    verdicts = {}
    for entry in cell["verdicts"]:
        values = {k: float(v) if k in numbers else v for k, v in entry.items() if k != "case"}
        verdicts[tuple(entry["case"])] = Verdict("", "", **values)
    return verdicts
