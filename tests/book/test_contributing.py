"""What CONTRIBUTING says about the library is true."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import bnlib

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf8")
PARTS = [
    module.name
    for module in pkgutil.iter_modules(bnlib.__path__)
    if not module.name.startswith("_") and module.name != "cli"
]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_library_is_named(page, part):
    assert re.search(rf"`bnlib/{part}(\.py)?`", (ROOT / page).read_text("utf8"))


def holds_compiled_functions(module):
    from numba.core.dispatcher import Dispatcher

    return any(
        isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__
        for value in vars(module).values()
    )


def imported_from_bnlib(module):
    for node in ast.walk(ast.parse(Path(module.__file__).read_text("utf8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bnlib"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_all_loops_stand_in_one_file_that_imports_no_other():
    # Numba looks at the file of a loop only: what that file imports is compiled into it unseen.
    pytest.importorskip("numba")
    files = pkgutil.walk_packages(importlib.import_module("bnlib.nn").__path__, "bnlib.nn.")
    modules = {each.name: importlib.import_module(each.name) for each in files}
    compiled = [module for module in modules.values() if holds_compiled_functions(module)]
    assert [module.__name__ for module in compiled] == ["bnlib.nn._cpu.loops"]
    assert not list(imported_from_bnlib(compiled[0]))
    assert "`bnlib/nn/_cpu/loops.py`" in CONTRIBUTING
