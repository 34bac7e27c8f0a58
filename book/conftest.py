"""With ``--keep-outputs``, the build finds what nbval executed: each chapter is executed once.

Without it, a run of nbval leaves nothing behind, as in ``make cpus``, where other instructions
compute other last digits.
"""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from execution_cache import keep, open_cache, prepare_kernels  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--keep-outputs", action="store_true", help="of the notebooks, for the build")


def pytest_configure(config):
    if config.getoption("keep_outputs"):
        prepare_kernels(ROOT)
        config.pluginmanager.register(KeepOutputs(open_cache(ROOT)))


class KeepOutputs:
    """Put a notebook into the cache of the build when all of its cells have passed."""

    def __init__(self, cache):
        self.cache = cache
        self.passed = {}  # cells of the notebook that runs, with their seconds

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if call.when == "call" and report.passed and hasattr(item, "cell"):
            item.cell.outputs = item.test_outputs
            item.cell.execution_count = item.cell_num + 1
            self.passed[item.cell_num] = call.duration
        return report

    def pytest_runtest_teardown(self, item, nextitem):
        if hasattr(item, "cell") and (nextitem is None or nextitem.parent is not item.parent):
            notebook = item.parent.nb
            if len(self.passed) == sum(cell.cell_type == "code" for cell in notebook.cells):
                keep(self.cache, notebook, item.path, sum(self.passed.values()))
            self.passed = {}
