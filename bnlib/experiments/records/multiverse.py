"""Each claim of the ledger over the settings that a critic would change, and what was found.

The settings of a claim are declared in :mod:`bnlib.experiments.records.settings`. A claim has a
store, a JSON file with one cell a setting. Unlike the cache of results it does not depend on the
source of the library: a test runs some cells again and compares.
"""

from __future__ import annotations

import contextlib
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bnlib._extras import require
from bnlib.experiments.records.cache import write_atomically
from bnlib.experiments.records.provenance import versions
from bnlib.experiments.records.registry import to_json
from bnlib.experiments.records.verdict import DEPENDS, Verdict, overall

FOLDER = Path("book", "_data", "multiverse")
"""Where the stores are, in a clone of the repository."""

SEEDS, OWN_SEEDS = 8, 16
"""Seeds of a cell, and of the cell with the chapter's own setting."""

Level = Mapping[str, Any]


class Judged(NamedTuple):
    """How a claim is judged.

    Attributes
    ----------
    judge : str
        Name of a function of the experiment's module, from a result to the verdicts by case.
    factors : mapping of str to int
        What an entry of the key of a case stands for, and which entry it is; the other entries are
        settings.
    """

    judge: str
    factors: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Multiverse:
    """The settings of claims that the same runs judge.

    Attributes
    ----------
    experiment : str
        Name of its module.
    claims : mapping of str to Judged
        By the keys of the ledger.
    base : mapping of str to object
        Fields of the experiment's `Config` in the chapter's own setting.
    axes : mapping of str to mapping
        Axis -> level -> fields of `Config` that it changes; the first level is the chapter's own,
        and changes nothing. A field belongs to one axis.
    combinations : int
        Settings with changes on several axes, drawn at random.
    """

    experiment: str
    claims: Mapping[str, Judged]
    base: Level
    axes: Mapping[str, Mapping[str, Level]]
    combinations: int

    def settings(self) -> list[dict[str, str]]:
        """List the settings, each as the level of every axis.

        Returns
        -------
        list of dict
            The chapter's own, then each change of one level alone, then the combinations: each
            axis is changed with probability 1/2, to any of its levels. They are always the same.
        """
        own = {axis: next(iter(levels)) for axis, levels in self.axes.items()}
        settings = [own]
        for axis, (_, *others) in self.axes.items():
            settings += [own | {axis: level} for level in others]
        rng = np.random.default_rng(0)
        while len(settings) < 1 + sum(len(x) - 1 for x in self.axes.values()) + self.combinations:
            drawn = dict(own)
            for axis, (_, *others) in self.axes.items():
                level = others[int(rng.random() * len(others))]
                if rng.random() < 0.5:
                    drawn[axis] = level
            if drawn not in settings:
                settings.append(drawn)
        return settings

    def fields(self, setting: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields of `Config` for a setting."""
        changed = [self.axes[axis][level] for axis, level in setting.items()]
        own = not any(changed)
        merged = {**self.base, "seeds": OWN_SEEDS if own else SEEDS}
        for level in changed:
            merged |= level
        return merged

    def configs(self) -> list[Any]:
        """Return the config of each setting."""
        config = import_module(f"bnlib.experiments.{self.experiment}").Config
        return [config(**self.fields(setting)) for setting in self.settings()]


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
        """Return the answer over all settings, as `overall` does."""
        verdicts = self.verdicts()
        if not verdicts:
            return "cannot tell"
        return overall(verdicts, *self.cells[0].setting, *self.factors)

    def counts(self) -> dict[str, int]:
        """Count the answers, the most frequent one first; "not judged" for cells with a reason."""
        answers = [
            "it depends" if verdict.answer.startswith(DEPENDS) else verdict.answer
            for verdict in self.verdicts().values()
        ]
        failed = ["not judged" for cell in self.cells if cell.reason]
        return dict(Counter(answers + failed).most_common())


def load(path: Path) -> Store | None:
    """Read the store of a claim; None if there is none.

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
            {"case": case, **{k: _number(v) for k, v in asdict(each).items() if k in NUMBERS}}
            for case, each in cell.verdicts.items()
        ]
        lines.append(json.dumps({**cell._asdict(), "verdicts": verdicts}, allow_nan=False))
    text = '{\n"factors": %s,\n"cells": [\n%s\n]\n}\n'
    content = text % (json.dumps(store.factors), ",\n".join(lines))
    write_atomically(path, content.encode())


NUMBERS = [field.name for field in fields(Verdict) if field.name not in ("claim", "source")]


def _number(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _verdicts(cell: Mapping[str, Any]) -> dict[tuple[str, ...], Verdict]:
    numbers = ("effect", "low", "high", "margin")
    verdicts = {}
    for entry in cell["verdicts"]:
        values = {k: float(v) if k in numbers else v for k, v in entry.items() if k != "case"}
        verdicts[tuple(entry["case"])] = Verdict("", "", **values)
    return verdicts


def measure(multiverse: Multiverse, index: int) -> tuple[int, dict[str, Cell]]:
    """Run and judge one setting.

    Parameters
    ----------
    multiverse : Multiverse
    index : int
        Number of the setting.

    Returns
    -------
    index : int
    cells : dict of str to Cell
        One a claim. A run or a judge that fails leaves its reason.
    """
    module = import_module(f"bnlib.experiments.{multiverse.experiment}")
    setting, config = multiverse.settings()[index], multiverse.configs()[index]
    start, result, reason = time.perf_counter(), None, ""
    try:
        result = module.run(config)
    except Exception as error:  # whatever it is, it costs only this cell
        reason = f"{type(error).__name__}: {error}"
    made = {
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.perf_counter() - start, 1),
        "processor": platform.machine(),
        "versions": versions(),
    }
    cells = {}
    for key, judged in multiverse.claims.items():
        verdicts, why = {}, reason
        if not why:
            try:
                verdicts = _judge(getattr(module, judged.judge), judged, result)
            except ValueError as error:
                why = f"ValueError: {error}"
        cells[key] = Cell(setting, _changed(config), verdicts, why, made)
    return index, cells


def _judge(
    judge: Callable[[Any], Any], judged: Judged, result: Any
) -> dict[tuple[str, ...], Verdict]:
    """Judge a result, by those entries of the keys of its cases that are no settings."""
    found = judge(result)
    cases = {(): found} if isinstance(found, Verdict) else found
    keys = [key if isinstance(key, tuple) else (key,) for key in cases]
    kept = [tuple(key[i] for i in judged.factors.values()) for key in keys]
    return dict(zip(kept, cases.values(), strict=True))


def _changed(config: Any) -> dict[str, Any]:
    """Return the fields of a config that are not its defaults."""
    default = type(config)()
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return to_json({k: v for k, v in values.items() if v != getattr(default, k)})


def run(
    multiverse: Multiverse,
    *,
    folder: Path = FOLDER,
    jobs: int = 1,
    progress: bool = False,
) -> dict[str, Store]:
    """Run the settings that the stores lack, and write the stores after each.

    Parameters
    ----------
    multiverse : Multiverse
    folder : Path
        Where the stores are. A cell is kept as long as its setting is declared with the same
        fields.
    jobs : int
        Settings at a time, as `n_jobs` of `joblib.Parallel`.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    dict of str to Store
        By claim.
    """
    require("joblib", extra="book")
    import joblib

    declared = [
        (setting, _changed(config))
        for setting, config in zip(multiverse.settings(), multiverse.configs(), strict=True)
    ]
    known = {key: _kept(load(folder / f"{key}.json"), declared) for key in multiverse.claims}
    missing = [i for i in range(len(declared)) if any(i not in kept for kept in known.values())]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    tasks = (joblib.delayed(measure)(multiverse, index) for index in missing)
    with contextlib.closing(parallel(tasks)) as finished:
        for index, cells in _shown(finished, len(missing), progress, multiverse.experiment):
            for key, cell in cells.items():
                known[key][index] = cell
                save(folder / f"{key}.json", _store(multiverse, key, known[key]))
    return {key: _store(multiverse, key, kept) for key, kept in known.items()}


def _store(multiverse: Multiverse, key: str, cells: Mapping[int, Cell]) -> Store:
    return Store(tuple(multiverse.claims[key].factors), [cells[i] for i in sorted(cells)])


def _kept(store: Store | None, declared: Sequence[tuple[Any, Any]]) -> dict[int, Cell]:
    """Return the cells of a store that are declared, by the number of the setting."""
    cells = store.cells if store else []
    return {declared.index(c[:2]): c for c in cells if c[:2] in declared}


def _shown(
    finished: Iterable[Any], total: int, progress: bool, name: str
) -> Iterator[tuple[int, dict[str, Cell]]]:
    if not progress:
        yield from finished
        return
    from tqdm.auto import tqdm

    yield from tqdm(finished, total=total, desc=name, unit="setting")
