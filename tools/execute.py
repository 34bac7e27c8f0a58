"""Execute the notebooks of `_toc.yml` on all cores; the build of the book then finds their outputs.

Usage: ``python tools/execute.py [folder of the book]``

Notebooks that have not changed since they last succeeded are not executed again.
"""

import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml
from execution_cache import keep, open_cache, prepare_kernels
from nbclient import NotebookClient

SECONDS_PER_CELL = 300
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of tracebacks: unreadable in a log


def notebooks_of_toc(root: Path) -> list[Path]:
    """List the notebooks that `_toc.yml` names, in its order."""

    def files(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    yield value
                else:
                    yield from files(value)
        elif isinstance(node, list):
            for item in node:
                yield from files(item)

    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    paths = (root / f"{name.removesuffix('.ipynb')}.ipynb" for name in files(toc))
    return [path for path in paths if path.exists()]


def execute(path: Path) -> tuple[nbformat.NotebookNode, float, str]:
    """Run one notebook in its folder; return it with the seconds taken and what went wrong."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,  # it would change the metadata by which the cache knows a cell
    )
    start = time.perf_counter()
    try:
        client.execute()
        failure = ""
    except Exception as error:  # a failing cell, a cell out of time, a kernel that died
        failure = COLOURS.sub("", str(error)) or repr(error)
    return notebook, time.perf_counter() - start, failure


def main(root: Path) -> int:
    """Execute what the cache lacks; return the number of notebooks that failed."""
    prepare_kernels(root)
    cache = open_cache(root)
    waiting = []
    for path in notebooks_of_toc(root):
        try:
            cache.match_cache_notebook(nbformat.read(path, as_version=4))
            print(f"unchanged  {path.relative_to(root)}", flush=True)
        except KeyError:
            waiting.append(path)

    failures = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each thread waits for a kernel of its own
        running = {pool.submit(execute, path): path for path in waiting}
        for future in as_completed(running):
            path = running[future]
            notebook, seconds, failure = future.result()
            if failure:
                failures[path] = failure
            else:
                keep(cache, notebook, path, seconds)
            state = "FAILED   " if failure else "executed "
            print(f"{state}  {path.relative_to(root)}  {seconds:.1f} s", flush=True)

    for path, failure in failures.items():
        print(f"\n{'=' * 80}\n{path.relative_to(root)}\n{'=' * 80}\n{failure}", file=sys.stderr)
    return len(failures)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1])
    sys.exit(1 if main(folder.resolve()) else 0)
