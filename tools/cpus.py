"""Run the tests and the notebooks as other processors would compute them, each with another seed.

Usage: ``python tools/cpus.py [--rows NAME,NAME] [--unit] [--notebooks] [--seed N] [path ...]``, or
``make cpus ARGS="..."``. CONTRIBUTING.md says what each row of the matrix imitates.

A row that needs instructions which this processor lacks is named and left out. The output of each
run is in ``_build/cpus``. Ctrl-C ends the runs and prints the table of those that are finished.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from execution_cache import hash_files

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "_build" / "cpus"

THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
ROWS = {
    "here": {},
    "old": {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "ATEN_CPU_CAPABILITY": "default",
        "OPENBLAS_CORETYPE": "Prescott",
        "MKL_CBWR": "COMPATIBLE",
    },
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
        "ATEN_CPU_CAPABILITY": "avx2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "avx512": {
        "NUMBA_CPU_NAME": "skylake-avx512",
        "NUMBA_CPU_FEATURES": "",
        "OPENBLAS_CORETYPE": "SkylakeX",
    },
    "threads": dict.fromkeys(THREADS, "2"),
    "torch": {"BNLIB_KERNEL": "torch"},
}
COMMANDS = {
    "unit": (),
    "notebooks": ("--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=900"),
}
EVERYTHING = {"unit": ("bnlib", "tests"), "notebooks": ("book", "--ignore=book/_ext")}

# The conversion of a float to an unsigned integer is one instruction of AVX-512, without a choice.
PROBE = """
import numba, numpy, torch
print("Numba", flush=True)
numba.njit(lambda x: numpy.uint64(x))(3.5)
print("OpenBLAS", flush=True)
numpy.ones((64, 64)) @ numpy.ones((64, 64))
print("torch", flush=True)
torch.ones(64, 64) @ torch.ones(64, 64)
"""


class Result(NamedTuple):
    """What came of one run of pytest."""

    row: str
    part: str
    seed: int
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    remark: str = ""


def environment(row: str, seed: int) -> dict[str, str]:
    """Return the variables of a row; an OPENBLAS_CORETYPE that this machine needs is kept."""
    variables = dict.fromkeys(THREADS, "1") | ROWS[row]
    variables |= {k: v for k, v in os.environ.items() if k == "OPENBLAS_CORETYPE"}
    # Numba looks at the file of a loop only, not at those that it calls from other files.
    variables["NUMBA_CACHE_DIR"] = str(LOGS / f"numba-{hash_files(ROOT, 'bnlib')}" / row)
    return variables | {"BNLIB_TEST_SEED": str(seed)}


def name_of_signal(returncode: int) -> str:
    """Return the name of the signal that ended a process, nothing if none did."""
    return signal.Signals(-returncode).name if returncode < 0 else ""


def lacks(variables: dict[str, str]) -> str:
    """Return what dies on this processor with these variables, nothing if all runs."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode > 0:
        raise RuntimeError("the probe of the processor failed")
    ended = name_of_signal(run.returncode)
    return ended and f"{run.stdout.split()[-1]} ends with {ended}"


def run(row: str, part: str, seed: int, paths: tuple[str, ...], processes: int) -> Result:
    """Run one part of the tests under the variables of a row."""
    variables = environment(row, seed)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    if processes > 1:
        command += ["-n", str(processes), "--dist", "worksteal" if part == "unit" else "loadscope"]
    log = LOGS / f"{row}-{part}.log"
    with log.open("w") as file:
        ended = subprocess.run(
            [*command, *COMMANDS[part], *paths],
            cwd=ROOT,
            env=os.environ | variables,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    lines = log.read_text().splitlines()
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(line)
    last = lines[-1] if lines else ""
    counts = {word.rstrip("s"): int(n) for n, word in re.findall(r"(\d+) (\w+)", last)}
    remark = ""
    if ended not in (0, 1):
        remark = f"pytest: {name_of_signal(ended) or f'exit code {ended}'}, see {log.name}"
    failed = counts.get("failed", 0) + counts.get("error", 0)
    return Result(
        row, part, seed, counts.get("passed", 0), failed, counts.get("skipped", 0), remark
    )


def table(results: list[Result]) -> str:
    """Lay out the results, a line each."""
    lines = [("row", "part", "seed", "passed", "failed", "skipped", "variables")]
    for result in results:
        variables = " ".join(f"{k}={v}" for k, v in ROWS[result.row].items()) or "none"
        kept = os.environ.get("OPENBLAS_CORETYPE")
        remarks = [result.remark, kept and f"OPENBLAS_CORETYPE={kept} is kept"]
        lines.append((*map(str, result[:-1]), "; ".join([variables, *filter(None, remarks)])))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> int:
    """Run what the command line asks for; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", default=",".join(ROWS), help="names, separated by commas")
    parser.add_argument("--unit", action="store_true", help="the unit tests only")
    parser.add_argument("--notebooks", action="store_true", help="the notebooks only")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first row (default 0)")
    parser.add_argument("--processes", type=int, default=1, help="of pytest (default 1)")
    parser.add_argument("paths", nargs="*", help="notebooks, files or folders of tests")
    options = parser.parse_args()
    rows = options.rows.split(",")
    if not set(rows) <= ROWS.keys():
        parser.error(f"--rows: expected some of {', '.join(ROWS)}, got {options.rows}")

    parts = dict(EVERYTHING)
    if options.paths:
        is_notebook = {p: p.endswith(".ipynb") for p in options.paths}
        parts["unit"] = tuple(p for p in options.paths if not is_notebook[p])
        parts["notebooks"] = tuple(p for p in options.paths if is_notebook[p])
    elif options.unit or options.notebooks:
        parts = {p: paths for p, paths in parts.items() if getattr(options, p)}
    parts = {part: paths for part, paths in parts.items() if paths}

    LOGS.mkdir(parents=True, exist_ok=True)
    results, interrupted = [], False
    try:
        for row in rows:
            seed = options.seed + list(ROWS).index(row)
            missing = lacks(environment(row, seed))
            for part, paths in parts.items():
                if missing:
                    results.append(Result(row, part, seed, remark=f"CANNOT RUN HERE: {missing}"))
                else:
                    results.append(run(row, part, seed, paths, options.processes))
                print(table(results[-1:]), flush=True)
    except KeyboardInterrupt:
        interrupted = True
        print("\ninterrupted; what is finished:")
    print("\n" + table(results))
    ran = [result for result in results if not result.remark.startswith("CANNOT")]
    return int(interrupted or not ran or any(r.failed or r.remark for r in ran))


if __name__ == "__main__":
    sys.exit(main())
