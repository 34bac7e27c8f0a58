"""What needs no extra works where none is installed; the rest names the extra that it needs."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from distribution import extra, modules_of

import bnlib
from bnlib._extras import require

# A finder that refuses, rather than None in sys.modules: SciPy asks sys.modules for torch.
PRELUDE = """
import importlib, importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
for name in {blocked}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        pass
    else:
        raise SystemExit(f"{name} is not blocked")
for name in {modules}:
    importlib.import_module(name)

sys.path.insert(0, {helpers})
import lean_use
"""
WITHOUT_TORCH = """
import numpy as np
from bnlib import datasets, layers

data = datasets.digits()
rng = [np.random.default_rng(seed) for seed in range(2)]
network = layers.Sequential(
    layers.Linear(64, 8, rng=rng), layers.BatchNorm(8, seeds=2), layers.ReLU(),
    layers.Linear(8, 10, rng=rng),
)
batch = np.stack([data.x_train[:32], data.x_train[32:64]])
loss, dlogits = layers.softmax_cross_entropy(network(batch), data.y_train[:32])
network.backward(dlogits)
layers.SGD(network, 0.1).step()
assert loss.shape == (2,)

for name in ("bnlib.nn", "bnlib.surgery", "bnlib.surgery.fold", "bnlib.doctor"):
    lean_use.needs("torch", importlib.import_module, name)
"""


def run(script, *, blocked, without):
    """Run a script where some packages are blocked, after the import of all modules but some."""
    modules = ["bnlib"] + [
        module.name
        for module in pkgutil.walk_packages(bnlib.__path__, "bnlib.")
        if module.name.split(".")[1] not in without and not module.name.endswith("__main__")
    ]
    helpers = str(Path(__file__).parent / "helpers")
    values = {"{blocked}": blocked, "{modules}": modules, "{helpers}": helpers}
    for name, value in values.items():
        script = script.replace(name, repr(value))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return modules


def test_numpy_side_works_with_torch_blocked():
    modules = run(
        PRELUDE + WITHOUT_TORCH,
        blocked=modules_of(extra("torch")),
        without=("nn", "surgery", "doctor"),
    )
    assert {"bnlib.functional", "bnlib.layers", "bnlib.datasets", "bnlib.plots"} <= set(modules)


def test_library_works_with_the_packages_of_book_and_notebooks_blocked():
    blocked = modules_of(set(extra("notebooks")) - set(extra("torch")) | {"ipython"})
    assert {"sklearn", "matplotlib", "PIL", "mlxtend", "mnist1d", "joblib", "myst_nb"} <= blocked
    modules = run(
        PRELUDE + "lean_use.main()",
        blocked=blocked,
        without=("plots",),
    )
    assert {"bnlib.nn", "bnlib.surgery.example", "bnlib.experiments.inference"} <= set(modules)


def test_a_broken_package_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all") as broken:
        require("broken_package", extra="book")
    assert "extra" not in str(broken.value)
    with pytest.raises(
        ModuleNotFoundError, match=r"'book'.*pip install -e \"\.\[book\]\""
    ) as absent:
        require("not_there_at_all", extra="book")
    assert absent.value.name == "not_there_at_all"


def test_an_empty_folder_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "only_a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=r"'only_a_folder'.*\[torch\]") as absent:
        require("only_a_folder", extra="torch")
    assert absent.value.name == "only_a_folder"
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").touch()
    require("a_package", extra="torch")
