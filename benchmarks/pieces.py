"""What each piece of the CPU path of bnlib.nn buys, and the whole against an earlier commit.

Contenders take turns in this process, each after a call of its own that does not count. Ratios are
of the fastest fifth of the rounds. On one thread the time is that of the processor, which other
programs disturb less. The tables go into benchmarks/RESULTS.md:

    python -m benchmarks.pieces db506aa
"""

import argparse
import datetime
import importlib
import importlib.util
import io
import math
import pathlib
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numba
import torch
from torch import nn

from benchmarks.nn import NORMS, SHAPES, SMALL, both_passes, tensor
from bnlib import nn as bnn
from bnlib.nn import _running
from bnlib.nn._cpu import kernel, loops

ROOT = pathlib.Path(__file__).parents[1]
LOOPS, KERNEL, RUNNING = map(pathlib.Path, (loops.__file__, kernel.__file__, _running.__file__))
MODES = {"forward": lambda module, x: lambda: module(x), "forward + backward": both_passes}


@dataclass(frozen=True)
class Piece:
    """Code that makes the CPU path faster and longer, and how to do without it."""

    what: str
    shape: tuple[int, ...]
    last: bool  # channels_last
    without: Callable[[], tuple[types.ModuleType, str, object]]  # module, name, other value
    spans: tuple[tuple[pathlib.Path, str, str], ...]  # file, first line, first that is not part

    def lines(self) -> int:
        """Count its lines."""
        count = 0
        for file, first, stop in self.spans:
            lines = file.read_text("utf8").splitlines()
            (start,) = (i for i, line in enumerate(lines) if line.strip().startswith(first))
            end = (i for i in range(start + 1, len(lines)) if lines[i].strip().startswith(stop))
            count += next(end) - start
        return count


def edited_loops(*edits: tuple[str, str]) -> tuple[types.ModuleType, str, object]:
    """Do without a piece by edits of the loops, which are compiled again."""
    source = LOOPS.read_text("utf8")
    for old, new in edits:
        if source.count(old) != 1:
            raise LookupError(f"edits: expected once, found {source.count(old)} times: {old!r}")
        source = source.replace(old, new)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "edited_loops.py"
        path.write_text(source, "utf8")
        spec = importlib.util.spec_from_file_location("edited_loops", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return kernel, "loops", module


PIECES = [
    Piece(
        "two short rows at once", (16, 512, 7, 7), False,
        lambda: edited_loops(("PAIR = 128", "PAIR = 0")),
        ((LOOPS, "def pair_sums(", "@helper"),
         (LOOPS, "for c in range(first, first + 2 * pairs", "for c in range(first + 2 * pairs")),
    ),
    Piece(
        "several positions in a line", (32, 3, 224, 224), True,
        lambda: (kernel, "WIDTH", 1),
        ((KERNEL, "fold = max(1", "return LINES"),),
    ),
    Piece(
        "rows of a few values read as lines", (64, 64, 3, 3), False,
        lambda: (kernel, "SHORT", 1),
        ((KERNEL, "SHORT = ", "WIDTH = "),),
    ),
    Piece(
        "large pages", (32, 64, 112, 112), False,
        lambda: (kernel, "_advise", None),
        ((KERNEL, "# The first write to", "def _start_threads("),
         (KERNEL, "size = y.numel() * y.element_size()", "return y")),
    ),
    Piece(
        "running statistics in one compiled step", (60, 100), False,
        lambda: (_running, "_is_simple", lambda *_: False),
        ((LOOPS, "def track(", "# Layer norm"), (KERNEL, "def track(", "def last_axis_forward("),
         (RUNNING, "def _is_simple(", "def weight_of_new(")),
    ),
]  # fmt: skip


def ratio(first: Callable, second: Callable, values: int, *, by_turn: Callable = bool) -> float:
    """Time of the first over that of the second; `by_turn` is told whose turn comes, 0 or 1."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(max(15, min(1500, 10**8 // values))):
        for i, call in enumerate((first, second)):
            by_turn(i)
            call()
            start = clock()
            call()
            seconds[i].append(clock() - start)
    one, two = (sum(sorted(s)[: len(s) // 5]) for s in seconds)
    return one / two


def batch_norm(package: types.ModuleType, shape: tuple[int, ...]) -> nn.Module:
    """Return the batch norm of a package for inputs of this shape."""
    return getattr(package, f"BatchNorm{max(len(shape) - 2, 1)}d")(shape[1])


def table_of_pieces() -> Iterator[str]:
    """Yield a row for each piece: the time without it over the time with it, on one thread."""
    torch.set_num_threads(1)
    for piece in PIECES:
        module, name, other = piece.without()
        values = other, getattr(module, name)
        x, found = tensor(piece.shape, piece.last), []
        for prepare in MODES.values():
            call = prepare(batch_norm(bnn, piece.shape), x)
            turn = lambda i, m=module, n=name, v=values: setattr(m, n, v[i])  # noqa: E731
            found.append(ratio(call, call, x.numel(), by_turn=turn))
        layout = "channels_last" if piece.last else "contiguous"
        yield (f"| {piece.what} | {piece.lines()} | {piece.shape} {layout} "
               f"| {found[0]:.2f} | {found[1]:.2f} |")  # fmt: skip


def at(revision: str, folder: str) -> types.ModuleType:
    """Import `bnlib.nn` as it was at a commit, under another name."""
    archive = subprocess.run(
        ["git", "archive", revision, "bnlib"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    former = pathlib.Path(folder) / "bnlib"
    former = former.rename(former.with_name("former_bnlib"))
    for file in former.rglob("*.py"):
        file.write_text(re.sub(r"\bbnlib\b", "former_bnlib", file.read_text("utf8")), "utf8")
    sys.path.insert(0, folder)
    return importlib.import_module("former_bnlib.nn")


def table_against(former: types.ModuleType) -> Iterator[str]:
    """Yield a row for each shape: our time over that of the former package, and over torch's."""
    rows = [(str(s), s, last, lambda p, s=s: batch_norm(p, s))
            for last in (False, True) for s in (SHAPES if last else SHAPES + SMALL)]  # fmt: skip
    rows += [
        (label, shape, False, lambda p, name=name, args=args: getattr(p, name)(*args))
        for label, (name, args, shape) in NORMS.items()
    ]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        groups: dict[str, list[tuple[float, ...]]] = {}
        for label, shape, last, build in rows:
            x, found = tensor(shape, last), []
            for package in (former, nn):
                for prepare in MODES.values():
                    calls = [prepare(build(p), x) for p in (bnn, package)]
                    found.append(ratio(*calls, x.numel()))
            layout = "channels_last" if last else "contiguous"
            if label.startswith("("):
                kind = layout if shape in SHAPES else "small"
                groups.setdefault(kind, []).append(tuple(found))
            numbers = " | ".join(f"{f:.2f}" for f in found)
            yield f"| {label} {layout} | {threads} | {numbers} |"
        for kind, values in groups.items():
            means = (math.exp(sum(map(math.log, v)) / len(v)) for v in zip(*values, strict=True))
            numbers = " | ".join(f"{mean:.2f}" for mean in means)
            yield f"| **geometric mean, {kind}** | {threads} | {numbers} |"


def shown(rows: Iterator[str]) -> str:
    """Print rows as they come, and join them."""
    lines = []
    for row in rows:
        print(row, flush=True)
        lines.append(row)
    return "\n".join(lines)


def main(revision: str) -> None:
    """Measure, and write both tables."""
    with tempfile.TemporaryDirectory() as folder:
        against = shown(table_against(at(revision, folder)))
    versions = f"torch {torch.__version__}, Numba {numba.__version__}"
    text = f"""# What the CPU path of `bnlib.nn` takes, and what its pieces buy

Measured on {datetime.date.today()} by `python -m benchmarks.pieces {revision}`:
{platform.machine()}, Python {platform.python_version()}, {versions},
float32, train mode. All numbers are ratios of times taken turn by turn in one process.

## Against commit {revision}, and against torch

Our time over that of the other: below 1, we are faster. The first two numbers compare with the
commit, the last two with `torch.nn`.

| input | threads | forward | forward + backward | forward | forward + backward |
| --- | --- | --- | --- | --- | --- |
{against}

## Pieces

The time without a piece over the time with it, on one thread.

| piece | lines | shape | forward | forward + backward |
| --- | --- | --- | --- | --- |
{shown(table_of_pieces())}
"""
    (ROOT / "benchmarks" / "RESULTS.md").write_text(text, "utf8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", help="commit to compare with")
    main(parser.parse_args().revision)
