"""Everything but the torch side imports and works where torch is not installed."""

import pkgutil
import subprocess
import sys

import bnlib

# A finder that refuses, rather than None in sys.modules: SciPy asks sys.modules for torch.
SCRIPT = """
import importlib.abc, sys

class NoTorch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("torch is blocked", name="torch")

sys.meta_path.insert(0, NoTorch())
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("torch is not blocked")

import importlib
for name in {names}:
    importlib.import_module(name)

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
"""
NEEDS_TORCH = ("nn", "surgery", "doctor")


def test_numpy_side_works_with_torch_blocked():
    names = ["bnlib"] + [
        module.name
        for module in pkgutil.walk_packages(bnlib.__path__, "bnlib.")
        if module.name.split(".")[1] not in NEEDS_TORCH
    ]
    assert {"bnlib.functional", "bnlib.layers", "bnlib.datasets", "bnlib.plots"} <= set(names)
    script = SCRIPT.replace("{names}", repr(names))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
