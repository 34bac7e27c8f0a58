"""The chapters that run in a browser do so without PyTorch, Numba, myst-nb and other processes.

Their long experiments have the size that they have there.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[2] / "book"
sys.path.append(str(BOOK.parent / "tools"))

from lite import CHAPTERS  # noqa: E402

RUN = """
import importlib.abc, json, sys

class Browser(importlib.abc.MetaPathFinder):
    absent = {"torch", "numba", "myst_nb", "IPython"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Browser())

def refuse(*_, **__):
    raise OSError("a browser starts no process")

def view(*arguments, **options):
    windows = all_windows(*arguments, **options)
    if windows.nbytes >= 2**31:  # an address has 32 bits there
        raise ValueError("array is too big")
    return windows

from multiprocessing.process import BaseProcess
from numpy.lib import stride_tricks
import matplotlib, subprocess
all_windows = stride_tricks.sliding_window_view
stride_tricks.sliding_window_view = view
BaseProcess.start = subprocess.Popen.__init__ = refuse
matplotlib.use("agg")
import bnlib.book
bnlib.book.in_browser = lambda: True
cells = json.load(open(sys.argv[1]))["cells"]
names = {"__name__": "__main__"}
for number, cell in enumerate(cells):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
assert not Browser.absent & {name.partition(".")[0] for name in sys.modules}
"""


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs_as_in_a_browser(chapter):
    done = subprocess.run(
        [sys.executable, "-c", RUN, f"{chapter}.ipynb"],
        cwd=BOOK,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout


def test_the_chapters_are_those_that_can_do_without_torch():
    """The others need it: a chapter that takes it if it is there is in the list."""
    soft = {
        path.stem
        for path in BOOK.glob("*.ipynb")
        if "from bnlib.book import" in path.read_text("utf8")
        and not any(_needs_torch("".join(c["source"])) for c in _code(path))
    }
    assert soft == {*CHAPTERS}


def _code(path):
    return [c for c in json.loads(path.read_text("utf8"))["cells"] if c["cell_type"] == "code"]


def _needs_torch(source):
    wanted = ("import torch", "from torch", "from bnlib.surgery", "from bnlib import nn")
    return any(line.startswith(wanted) for line in source.split("\n"))
