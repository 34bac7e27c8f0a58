"""Judge claims of the ledger over the settings that a critic would change.

The settings of a claim are declared in :mod:`bnlib.experiments.records.settings`, and what was
found is in its store (:mod:`bnlib.experiments.records.store`).
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bnlib._extras import require
from bnlib.experiments.records.keys import changed
from bnlib.experiments.records.provenance import versions
from bnlib.experiments.records.registry import to_json
from bnlib.experiments.records.store import FOLDER, Cell, Store, load, save
from bnlib.experiments.records.verdict import Verdict

SEEDS, OWN_SEEDS = 8, 16
"""Seeds of a cell, and of the cell with the base setting."""

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
        Fields of the experiment's `Config` in the setting from which the others depart: the
        chapter's, or a smaller one where that takes long.
    axes : mapping of str to mapping
        Axis -> level -> fields of `Config` that it changes; the first level is the base,
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
            The base, then each change of one level alone, then the combinations: each
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
        levels = [self.axes[axis][level] for axis, level in setting.items()]
        own = not any(levels)
        merged = {**self.base, "seeds": OWN_SEEDS if own else SEEDS}
        for level in levels:
            merged |= level
        return merged

    def configs(self) -> list[Any]:
        """Return the config of each setting."""
        config = import_module(f"bnlib.experiments.{self.experiment}").Config
        return [config(**self.fields(setting)) for setting in self.settings()]


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
        One a claim. A setting that cannot be run or judged leaves its reason.
    """
    module = import_module(f"bnlib.experiments.{multiverse.experiment}")
    setting, config = multiverse.settings()[index], multiverse.configs()[index]
    start, result, reason = time.perf_counter(), None, ""
    try:
        result = module.run(config)
    except (ValueError, RuntimeError) as error:  # what a setting may be the reason of
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
    if len({*kept}) < len(kept):
        raise ValueError(f"factors: expected some that tell the cases {keys} apart")
    return dict(zip(kept, cases.values(), strict=True))


def _changed(config: Any) -> dict[str, Any]:
    """Return the fields of a config that are not as by default, as JSON has them."""
    return to_json(changed(config))


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
