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


def test_all_files_that_leave_stale_loops_are_named():
    # Numba looks at the file of a loop only: what that file imports is compiled into it unseen.
    pytest.importorskip("numba")
    files = pkgutil.walk_packages(importlib.import_module("bnlib.nn").__path__, "bnlib.nn.")
    modules = {each.name: importlib.import_module(each.name) for each in files}
    compiled = [module for module in modules.values() if holds_compiled_functions(module)]
    names = {name for module in compiled for name in imported_from_bnlib(module)}
    imported = {name if name in modules else name.rpartition(".")[0] for name in names}
    (rule,) = re.findall(r"After an edit in (.+?), call\s+`make clean`", CONTRIBUTING, re.DOTALL)
    named = {Path(file).name for file in re.findall(r"`([\w/]+\.py)`", rule)}
    assert named == {Path(modules[name].__file__).name for name in imported}
