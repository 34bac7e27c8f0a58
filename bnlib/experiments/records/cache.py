"""Results on disk, keyed by the config and the source of what computed them; sweeps over configs.

A result is stored as soon as it is computed, with wall time and versions, under a name that depends
on the function, its config, the source of the library and all versions: an edit makes old results
unreachable. Each write is atomic. So a sweep that was stopped in any way goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import bnlib
from bnlib._extras import require
from bnlib.experiments.records.provenance import library_source, versions


class Finished(NamedTuple):
    """What is stored: a result, and how it came about.

    Attributes
    ----------
    result : object
        What the function returned.
    seconds : float
        Wall time of the call.
    versions : dict of str to str
        Of Python and packages in the process that computed it, perhaps on another machine.
    """

    result: Any
    seconds: float
    versions: dict[str, str]


def default_folder() -> Path:
    """Return the folder of the cache: that of the user, in the folder named batchnorm-book.

    Returns
    -------
    Path
        In ``$XDG_CACHE_HOME``, or else in ``~/.cache``.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "batchnorm-book"


def sweep(
    run: Callable[[Any], Any],
    configs: Iterable[Any],
    jobs: int = 1,
    *,
    folder: Path | None = None,
    progress: bool = False,
    keep_going: bool = False,
) -> list[Any]:
    """Run every config that is not in the cache, in parallel, and store each when it is finished.

    Parameters
    ----------
    run : callable
        A function of a module, which takes a config, and returns a result that can be pickled.
    configs : iterable of dataclass instances
        Equal ones run once.
    jobs : int
        Configs at a time, as ``n_jobs`` of `joblib.Parallel`; -1 is one a processor or, with
        another back end of joblib, as many as that has workers.
    folder : Path, optional
        Where the results are; `default_folder` if not given.
    progress : bool
        Whether to show a progress bar: of the configs or, where a single one is to be computed, its
        own; `run` then takes ``progress=True``.
    keep_going : bool
        Whether a config that fails costs only itself: the list has its exception in that place.

    Returns
    -------
    list of Finished, or of Exception
        In the order of the configs.

    Raises
    ------
    TypeError, ValueError
        If a config is no dataclass instance, or `run` has no name by which it can be found again.
    Exception
        What `run` raises, unless it is to keep going; the finished configs are stored in any case.

    Notes
    -----
    Workers compute, and this process alone reads and writes the cache: it need not be visible to
    the workers of a cluster. The folder may be deleted at any time. The files are pickles; load
    none from a source that you do not trust.
    """
    require("joblib", extra="book")
    import joblib

    configs, folder = list(configs), folder or default_folder()
    paths = [folder / f"{key(run, config)}.pickle" for config in configs]
    done = {path: _load(path) for path in paths}
    missing = {p: c for p, c in zip(paths, configs, strict=True) if done[p] is None}
    alone = progress and len(missing) == 1
    task = functools.partial(_timed, caller=os.getpid(), progress=alone, keep_going=keep_going)
    tasks = (joblib.delayed(task)(run, path, config) for path, config in missing.items())
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    with (
        _bar(len(done), len(missing), progress and not alone) as advance,
        contextlib.closing(parallel(tasks)) as finished,
    ):
        for path, entry in finished:
            if isinstance(entry, Finished):
                write_atomically(path, pickle.dumps(entry, pickle.HIGHEST_PROTOCOL))
            done[path] = entry
            advance()
    return [done[path] for path in paths]


def key(run: Callable[[Any], Any], config: Any) -> str:
    """Name the result of a function for a config, so that other results have other names.

    Parameters
    ----------
    run : callable
        A function of a module.
    config : dataclass instance

    Returns
    -------
    str
        Name of the experiment and 32 hexadecimal digits: a hash of function, config, source of
        `bnlib` (and of the module of `run`, where that is another one), and versions.

    Raises
    ------
    TypeError
        If `config` is no dataclass instance, or a field holds anything but numbers, strings, None
        and tuples or mappings of them.
    ValueError
        If `run` is a lambda or a function within a function.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"config: expected a dataclass instance, got {config!r}")
    module, name = getattr(run, "__module__", None), getattr(run, "__qualname__", "<none>")
    if "<" in name:
        raise ValueError(f"run: expected a function of a module, got {run!r}")
    fields = json.dumps(dataclasses.asdict(config), default=_plain)
    parts = [module, name, type(config).__qualname__, fields]
    parts += [library_source(), _own_source(run), json.dumps(versions())]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return f"{module.rpartition('.')[2]}-{digest}"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any time it is absent, or the old one, or the new one.

    Parameters
    ----------
    path : Path
        Its folder is created.
    content : bytes
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _timed(
    run: Callable[..., Any],
    path: Path,
    config: Any,
    *,
    caller: int,
    progress: bool,
    keep_going: bool,
) -> tuple[Path, Finished | Exception]:
    if os.getpid() != caller:  # Ctrl-C reaches all processes: the caller alone answers it
        with contextlib.suppress(ValueError):  # a thread may not say so
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    start = time.perf_counter()
    try:
        result = run(config, progress=True) if progress else run(config)
    except Exception as error:
        if keep_going:
            return path, error
        raise
    return path, Finished(result, time.perf_counter() - start, versions())


def _own_source(run: Callable[[Any], Any]) -> str:
    """Source of the module of a function, unless the hash of the library covers it."""
    if run.__module__.split(".")[0] == bnlib.__name__:
        return ""
    file = inspect.getsourcefile(run)
    return Path(file).read_text("utf8") if file and Path(file).is_file() else inspect.getsource(run)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"config: expected numbers, strings and tuples in its fields, got {value!r}")


def _load(path: Path) -> Finished | None:
    """Read a result; None if there is none, or it cannot be read."""
    try:
        entry = pickle.loads(path.read_bytes())
    except Exception:  # no file, or whatever a damaged one makes of pickle: compute it again
        return None
    return entry if isinstance(entry, Finished) else None


@contextlib.contextmanager
def _bar(total: int, missing: int, progress: bool) -> Iterator[Callable[[], Any]]:
    if not progress:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, initial=total - missing, unit="config") as bar:
        yield bar.update
