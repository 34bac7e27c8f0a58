"""The packages that are asked for: bounds, pins, extras, and what Binder installs."""

import ast
import json
import re
import sys

import pytest
from distribution import EXTRAS, PROJECT, ROOT, distributions_of, everything, extra, listed, named

README = (ROOT / "README.md").read_text("utf8")
BINDER = (ROOT / ".binder" / "requirements.txt").read_text("utf8")
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
IMPORTED_BY_TORCH = {"torch.onnx.export(": "onnxscript"}
"""What a call in a cell needs although no cell imports it."""


def lower_bound(requirement):
    (bound,) = [each.version for each in requirement.specifier if each.operator == ">="]
    return bound


def pin(requirement):
    (exact,) = requirement.specifier
    assert exact.operator == "=="
    return exact.version


def test_plain_dependencies_are_few():
    assert set(named(PROJECT["dependencies"])) == {"numpy", "scipy", "tqdm"}
    assert set(extra("torch")) == {"torch"}
    assert set(extra("fast")) == {"torch", "numba"}


def test_lowest_versions_are_the_lower_bounds():
    lowest = {
        name: f"{name}=={pin(each)}" for name, each in listed("requirements-lowest.txt").items()
    }
    assert lowest == {name: f"{name}=={lower_bound(each)}" for name, each in everything().items()}


def test_everything_is_pinned_within_its_bounds():
    pins = listed("requirements.txt")
    for name, requirement in everything().items():
        assert requirement.specifier.contains(pin(pins[name])), name


def test_the_environment_of_real_architectures_differs_in_torch_alone():
    pins, own = listed("requirements.txt"), listed("requirements-architectures.txt")
    rival = {"torch-audit"}  # benchmarks.doctor puts the same faults before it
    assert own.keys() - pins.keys() == {"torchvision", "timm"} | rival
    different = {name for name in own.keys() & pins.keys() if pin(own[name]) != pin(pins[name])}
    assert different == {"torch"}
    for name, requirement in (named(PROJECT["dependencies"]) | extra("fast")).items():
        assert requirement.specifier.contains(pin(own[name])), name


@pytest.mark.parametrize("name", list(EXTRAS))
def test_readme_shows_how_to_install_each_extra(name):
    assert f'`pip install -e ".[{name}]"`' in README


def cells(notebook):
    for cell in json.loads(notebook.read_text("utf8"))["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def needed_by(notebook):
    """Return the distributions that the cells of a notebook import, but for Python's own."""
    modules, needed = set(), set()
    for source in cells(notebook):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module.split(".")[0])
        needed |= {package for call, package in IMPORTED_BY_TORCH.items() if call in source}
    for module in modules - set(sys.stdlib_module_names) - {"bnlib"}:
        (distribution,) = distributions_of(module)
        needed.add(distribution)
    return needed


def installed_by_binder():
    (own,) = re.findall(r"^-e \.\[(.+)\]$", BINDER, re.MULTILINE)
    found = named(PROJECT["dependencies"])
    for name in own.split(","):
        found |= extra(name)
    return set(found)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_binder_installs_what_a_chapter_imports(notebook):
    assert needed_by(notebook) - installed_by_binder() == set()


def test_imports_of_the_chapters_are_found():
    needed = set().union(*map(needed_by, NOTEBOOKS))
    assert {"numpy", "torch", "scikit-learn", "myst-nb", "keras", "onnx", "onnxscript"} <= needed


def test_binder_takes_the_pinned_versions():
    assert re.search(r"^-c \.\./requirements\.txt$", BINDER, re.MULTILINE)
    assert {"ipykernel"} <= installed_by_binder() <= set(listed("requirements.txt"))


def test_no_front_end_comes_with_what_binder_and_colab_install():
    assert set(extra("lab")) == {"jupyterlab", "jupyterlab-myst"}
    assert not installed_by_binder() & set(extra("lab"))


def test_binder_runs_the_lowest_python():
    runtime = (ROOT / ".binder" / "runtime.txt").read_text("utf8").strip()
    assert PROJECT["requires-python"] == f">={runtime.removeprefix('python-')}"
