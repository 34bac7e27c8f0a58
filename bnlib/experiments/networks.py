"""Plain networks with a leading axis, and what decides how they are trained.

The networks are the lanes of that axis, learning rates first: lane i has rate i // seeds and seed
i % seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib import datasets, layers
from bnlib.experiments._lanes import build_norm

DATASETS = {
    "digits": datasets.digits,
    "mnist_subset": partial(datasets.mnist_subset, flat=True),
    "mnist1d": datasets.mnist1d,
    "photo_patches": partial(datasets.photo_patches, rng=0),
    "two_moons": partial(datasets.two_moons, rng=0),
    "circles": partial(datasets.circles, rng=0),
    "spirals": partial(datasets.spirals, rng=0),
}
ACTIVATIONS = {"relu": layers.ReLU, "sigmoid": layers.Sigmoid, "tanh": layers.Tanh}
NORMS = ("none", "batch", "layer", "group", "rms")
INITS = {
    "he": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,
    "xavier": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,
    "normal": lambda fan_in, fan_out: 1.0,
}
"""Name -> standard deviation of a weight at scale 1, from fan_in and fan_out."""

WEIGHTS, ORDER = range(2)  # what a stream of random numbers is for


@dataclass(frozen=True)
class Config:
    """What is trained, on what, and how.

    Attributes
    ----------
    dataset : str
        Name in `bnlib.datasets`; images are flattened.
    depth, width : int
        Hidden layers, and units in each.
    activation : {"relu", "sigmoid", "tanh"}
    norm : {"none", "batch", "layer", "group", "rms"}
        Normalization between each hidden linear layer and its activation function.
    groups : int
        Groups of group norm; divides `width`.
    init : {"he", "xavier", "normal"}
        Standard deviation of the weights; "normal" is 1 whatever the width.
    init_scale : float
        Factor on it.
    optimizer : {"sgd", "adam"}
    lr : float or tuple of float
        Learning rate; several ones are trained side by side.
    momentum : float
        Of SGD.
    weight_decay : float
        Multiple of all parameters that is added to their gradient.
    batch_size, steps : int
        Examples of a mini-batch, and updates.
    seeds, first_seed : int
        Number of seeds, and the first of them; the others follow it.

    Raises
    ------
    ValueError
        If a name is unknown or a number is out of range.
    """

    dataset: str = "digits"
    depth: int = 3
    width: int = 64
    activation: Literal["relu", "sigmoid", "tanh"] = "relu"
    norm: Literal["none", "batch", "layer", "group", "rms"] = "none"
    groups: int = 4
    init: Literal["he", "xavier", "normal"] = "he"
    init_scale: float = 1.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float | tuple[float, ...] = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 64
    steps: int = 300
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        choices = {"dataset": DATASETS, "activation": ACTIVATIONS, "norm": NORMS, "init": INITS}
        for name, known in {**choices, "optimizer": ("sgd", "adam")}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {[*known]}, got {getattr(self, name)!r}")
        least = {"depth": 0, "width": 1, "batch_size": 1, "steps": 0, "seeds": 1, "first_seed": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name}: expected at least {minimum}, got {getattr(self, name)}")
        if not self.rates or not all(isinstance(rate, float | int) for rate in self.rates):
            raise ValueError(f"lr: expected a number or a tuple of numbers, got {self.lr!r}")
        if self.norm == "group" and self.width % self.groups:
            raise ValueError(f"groups: expected a divisor of width={self.width}, got {self.groups}")
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"momentum: expected 0, as Adam has its own, got {self.momentum}")

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates, one or more."""
        return self.lr if isinstance(self.lr, tuple) else (self.lr,)

    @property
    def lanes(self) -> int:
        """Number of networks: learning rates times seeds."""
        return len(self.rates) * self.seeds


def build(config: Config) -> layers.Sequential:
    """Build the networks of all lanes, as one network with a leading axis.

    Parameters
    ----------
    config : Config

    Returns
    -------
    Sequential
        For each hidden layer Linear, the norm, and the activation function; then Linear. A linear
        layer before batch norm has no bias, which would do nothing.

    Examples
    --------
    >>> build(Config(depth=1, norm="batch", seeds=2))
    Sequential(
      (0): Linear(64, 64, bias=False, seeds=2)
      (1): BatchNorm(64, seeds=2)
      (2): ReLU()
      (3): Linear(64, 10, seeds=2)
    )
    """
    data = load(config.dataset)
    rngs = [rng for _ in config.rates for rng in generators(config, WEIGHTS)]  # the same draws
    blocks: list[layers.Layer] = []
    fan_in = data.x_train.shape[1]
    for _ in range(config.depth):
        bias = config.norm != "batch"
        blocks.append(
            layers.Linear(fan_in, config.width, rng=rngs, init=_initializer(config), bias=bias)
        )
        blocks += build_norm(config.norm, config.width, config.groups, config.lanes)
        blocks.append(ACTIVATIONS[config.activation]())
        fan_in = config.width
    classes = int(data.y_train.max()) + 1
    output = layers.Linear(fan_in, classes, rng=rngs, init=_initializer(config))
    return layers.Sequential(*blocks, output)


@lru_cache(maxsize=1)
def load(name: str) -> datasets.Dataset:
    """Load a data set with flat inputs.

    Parameters
    ----------
    name : str
        One of `DATASETS`.

    Returns
    -------
    Dataset
        Inputs of shape (n, d); the arrays are read-only, as all calls share them.
    """
    data = DATASETS[name]()
    flat = [data.x_train.reshape(len(data.x_train), -1), data.x_test.reshape(len(data.x_test), -1)]
    data = data._replace(x_train=flat[0], x_test=flat[1])
    for array in data:
        array.flags.writeable = False
    return data


def generators(config: Config, purpose: int) -> list[np.random.Generator]:
    """Make one generator a seed; each purpose has its own stream."""
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    return [np.random.default_rng([purpose, seed]) for seed in seeds]


def _initializer(config: Config) -> layers.base.Initializer:
    def init(
        rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        std = config.init_scale * INITS[config.init](fan_in, fan_out)
        return layers.scaled(std)(rng, shape, fan_in, fan_out)

    return init
