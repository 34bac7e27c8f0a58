"""Plain networks with a leading axis, and what decides how they are trained.

The networks are the replicas of that axis, learning rates first: replica i has rate i // seeds and
seed i % seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from bnlib import datasets, layers
from bnlib.experiments.engine.replicas import build_norm

DATASETS = {
    "digits": datasets.digits,
    "mnist_subset": partial(datasets.mnist_subset, flat=True),
    "mnist1d": datasets.mnist1d,
    "photo_patches": partial(datasets.photo_patches, rng=0),
    "two_moons": partial(datasets.two_moons, rng=0),
    "circles": partial(datasets.circles, rng=0),
    "spirals": partial(datasets.spirals, rng=0),
}
Activation = Literal["relu", "sigmoid", "tanh"]
ACTIVATIONS = {"relu": layers.ReLU, "sigmoid": layers.Sigmoid, "tanh": layers.Tanh}
Optimizer = Literal["sgd", "adam"]
Initialization = Literal["he", "xavier", "normal"]
Norm = Literal[
    "none", "batch", "center", "scale", "detached", "layer", "group", "rms", "tanh", "identity"
]
NORMS = get_args(Norm)
NO_BIAS = ("batch", "center", "scale", "detached", "identity")
"""Norms before which a linear layer has no bias: batch norm, and what differs from it in one part.
Batch norm takes a bias away, and each of them has a shift behind it."""

Arm = Literal[Norm, "none again", "batch again"]
"""A norm, or what a negative control needs: "identity" has the parameters of batch norm but does
not normalize; "again" is the same norm from other seeds (`arm`)."""

OTHER_SEEDS = 500
"""How far the seeds of an arm "again" are from those of the arm."""
INITS = {
    "he": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,
    "xavier": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,
    "normal": lambda fan_in, fan_out: 1.0,
}
"""Name -> standard deviation of a weight at scale 1, from fan_in and fan_out."""

WEIGHTS, ORDER, RECALIBRATION, TEST, EXAMPLES = range(5)  # what a stream of random numbers is for
DROPOUT = NOISE = RECALIBRATION  # no experiment has two of these


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
        Activation function of the hidden layers.
    norm : {"none", "batch", "center", "scale", "detached", "layer", "group", "rms", "tanh", \
"identity"}
        Normalization between each hidden linear layer and its activation function: "center" and
        "scale" are the halves of batch norm, "detached" is batch norm whose backward pass takes the
        statistics for constants, "tanh" is dynamic tanh, and "identity" scales and shifts alone.
    groups : int
        Groups of group norm; divides `width`.
    init : {"he", "xavier", "normal"}
        Standard deviation of the weights; "normal" is 1 whatever the width.
    init_scale : float
        Factor on it.
    optimizer : {"sgd", "adam"}
        Gradient descent, with momentum if that is not 0; or Adam.
    lr : float or tuple of float
        Learning rate; several ones are trained side by side.
    momentum : float
        Of SGD.
    weight_decay : float
        Multiple of all parameters that is added to their gradient.
    n_train : int or None
        Train on so many of the training examples; the others are for validation. None is all.
    redraw : bool
        Whether each seed draws its own `n_train` examples. Else all seeds have the first ones.
    batch_size, steps : int
        Examples of a mini-batch, and updates.
    seeds, first_seed : int
        Number of seeds, and the first of them; the others follow it.
    dtype : {"float64", "float32"}
        Precision of data and parameters; float32 takes about half the time.

    Raises
    ------
    ValueError
        If a name is unknown or a number is out of range.
    """

    dataset: str = "digits"
    depth: int = 3
    width: int = 64
    activation: Activation = "relu"
    norm: Norm = "none"
    groups: int = 4
    init: Initialization = "he"
    init_scale: float = 1.0
    optimizer: Optimizer = "sgd"
    lr: float | tuple[float, ...] = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    n_train: int | None = None
    redraw: bool = False
    batch_size: int = 64
    steps: int = 300
    seeds: int = 16
    first_seed: int = 0
    dtype: Literal["float64", "float32"] = "float64"

    def __post_init__(self) -> None:
        choices = {"dataset": DATASETS, "activation": ACTIVATIONS, "norm": NORMS, "init": INITS}
        choices |= {"optimizer": ("sgd", "adam"), "dtype": ("float64", "float32")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {[*known]}, got {getattr(self, name)!r}")
        least = {"depth": 0, "width": 1, "batch_size": 1, "steps": 0, "seeds": 1, "first_seed": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name}: expected at least {minimum}, got {getattr(self, name)}")
        if self.n_train is not None and self.n_train < self.batch_size:
            raise ValueError(
                f"n_train: expected None or at least batch_size={self.batch_size}, "
                f"got {self.n_train}"
            )
        if self.redraw and self.n_train is None:
            raise ValueError("redraw: expected n_train too, the number of examples to draw")
        if not self.rates or not all(isinstance(rate, float | int) for rate in self.rates):
            raise ValueError(f"lr: expected a number or a tuple of numbers, got {self.lr!r}")
        if self.norm == "group" and self.width % self.groups:
            raise ValueError(f"groups: expected a divisor of width={self.width}, got {self.groups}")
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"momentum: expected 0, as Adam has its own, got {self.momentum}")

    @classmethod
    def of(cls, config: Any, **others: Any) -> Self:
        """Take every field that the config of an experiment has too, and the others as given.

        A norm "batch again" is "batch" with other seeds.

        Parameters
        ----------
        config : dataclass instance
            Its fields of the same names mean the same.
        **others
            Further fields; they go before those of `config`.

        Returns
        -------
        Config

        Raises
        ------
        TypeError
            If one of the others is no field.
        """
        shared = {field.name for field in fields(cls)} & {field.name for field in fields(config)}
        values = {name: getattr(config, name) for name in shared} | others
        if "norm" in values:
            values["norm"], values["first_seed"] = arm(values["norm"], values.get("first_seed", 0))
        return cls(**values)

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates, one or more."""
        return self.lr if isinstance(self.lr, tuple) else (self.lr,)

    @property
    def replicas(self) -> int:
        """Number of networks: learning rates times seeds."""
        return len(self.rates) * self.seeds


def arm(name: str, first_seed: int = 0) -> tuple[str, int]:
    """Return the norm of an arm, and its first seed: "none again" is "none" from other seeds.

    Examples
    --------
    >>> from bnlib.experiments.engine.networks import arm
    >>> arm("none"), arm("none again")
    (('none', 0), ('none', 500))
    """
    norm = name.removesuffix(" again")
    return norm, first_seed + OTHER_SEEDS * (norm != name)


def check_arms(known: Collection[str], **fields: Sequence[str]) -> None:
    """Raise ValueError unless the arms of each field are known; those "again" are.

    Parameters
    ----------
    known : collection of str
    **fields : sequence of str
        Name of a field of the config -> its arms.
    """
    for name, arms in fields.items():
        for each in arms:
            if arm(each)[0] not in known:
                raise ValueError(f"{name}: expected some of {(*known,)}, got {each!r}")


def build(
    config: Config,
    behind: Callable[[int], Sequence[layers.Layer]] | None = None,
    *,
    bias: bool | None = None,
) -> layers.Sequential:
    """Build the networks of all replicas, as one network with a leading axis.

    Parameters
    ----------
    config : Config
    behind : callable, optional
        Number of a hidden linear layer, from 0 on -> the layers between it and the next. By default
        the norm and the activation function of the config.
    bias : bool, optional
        Whether hidden linear layers have a bias. By default they have none before `NO_BIAS`.

    Returns
    -------
    Sequential
        For each hidden layer Linear and what is behind it; then Linear.

    Examples
    --------
    >>> from bnlib.experiments.engine.networks import Config, build
    >>> build(Config(depth=1, norm="batch", seeds=2))
    Sequential(
      (0): Linear(64, 64, bias=False, seeds=2)
      (1): BatchNorm(64, seeds=2)
      (2): ReLU()
      (3): Linear(64, 10, seeds=2)
    )
    """
    data = load(config.dataset)
    dtype = np.dtype(config.dtype)
    options = {
        "rng": replica_generators(config, WEIGHTS),
        "init": initializer(config),
        "dtype": dtype,
    }

    def norm_and_activation(_: int) -> list[layers.Layer]:
        norm = build_norm(config.norm, config.width, config.groups, config.replicas, dtype)
        return [*norm, ACTIVATIONS[config.activation]()]

    behind = behind or norm_and_activation
    bias = config.norm not in NO_BIAS if bias is None else bias
    blocks: list[layers.Layer] = []
    fan_in = data.x_train.shape[1]
    for i in range(config.depth):
        blocks += [layers.Linear(fan_in, config.width, bias=bias, **options), *behind(i)]
        fan_in = config.width
    classes = int(data.y_train.max()) + 1
    return layers.Sequential(*blocks, layers.Linear(fan_in, classes, **options))


def build_optimizer(
    config: Config, network: layers.Sequential, groups: Sequence[Mapping[str, Any]] = ()
) -> layers.SGD | layers.Adam:
    """Build the optimizer of a config, with the learning rate of each replica.

    Parameters
    ----------
    config : Config
    network : Sequential
        With one entry a replica on its leading axis.
    groups : sequence of dict
        As :class:`bnlib.layers.SGD` takes them.

    Returns
    -------
    SGD or Adam
    """
    lr = np.repeat(np.asarray(config.rates, np.float64), config.seeds)
    options = {"weight_decay": config.weight_decay, "groups": groups}
    if config.optimizer == "adam":
        return layers.Adam(network, lr, **options)
    return layers.SGD(network, lr, momentum=config.momentum, **options)


class Data(NamedTuple):
    """Examples, one on each entry of axis 0, and labels; no validation set is one of length 0."""

    x_train: NDArray[np.floating]
    y_train: NDArray[np.int64]
    x_valid: NDArray[np.floating]
    y_valid: NDArray[np.int64]
    x_test: NDArray[np.floating]
    y_test: NDArray[np.int64]


@lru_cache(maxsize=2)
def load(name: str, n_train: int | None = None, dtype: str = "float64") -> Data:
    """Load a data set with flat inputs.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    n_train : int, optional
        How many of the training examples to keep; the others are the validation set.
    dtype : {"float64", "float32"}

    Returns
    -------
    Data
        Inputs of shape (n, d); the arrays are read-only, as all calls share them.

    Raises
    ------
    ValueError
        If there are not so many training examples.
    """
    data = DATASETS[name](dtype=dtype)
    n = len(data.x_train)
    if n_train is not None and n_train > n:
        raise ValueError(f"n_train: expected at most {n}, got {n_train}")
    x, x_test = (a.reshape(len(a), -1) for a in (data.x_train, data.x_test))
    kept, rest = slice(n_train), slice(n if n_train is None else n_train, None)
    y = data.y_train
    data = Data(x[kept], y[kept], x[rest], y[rest], x_test, data.y_test)
    for array in data:
        array.flags.writeable = False
    return data


def load_replicas(config: Config) -> Data:
    """Load the data of a config; with `redraw`, each replica has its own training examples.

    Parameters
    ----------
    config : Config

    Returns
    -------
    Data
        As `load`; with `redraw`, training and validation sets have a leading axis of replicas.
    """
    data = load(config.dataset, config.n_train, config.dtype)
    return redraw(config, data) if config.redraw else data


def redraw(config: Config, data: Data) -> Data:
    """Draw the training examples of each replica, and leave the others for validation.

    Parameters
    ----------
    config : Config
        Replicas of the same seed get the same `n_train` examples.
    data : Data
        Without a leading axis of replicas.

    Returns
    -------
    Data
        Training and validation sets have a leading axis of replicas.
    """
    x = np.concatenate([data.x_train, data.x_valid])
    y = np.concatenate([data.y_train, data.y_valid])
    drawn = np.stack([rng.permutation(len(x)) for rng in replica_generators(config, EXAMPLES)])
    kept, rest = drawn[:, : config.n_train], drawn[:, config.n_train :]
    return Data(x[kept], y[kept], x[rest], y[rest], data.x_test, data.y_test)


def generators(config: Config, purpose: int) -> list[np.random.Generator]:
    """Make one generator a seed; each purpose has its own stream."""
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    return [np.random.default_rng([purpose, seed]) for seed in seeds]


def replica_generators(config: Config, purpose: int) -> list[np.random.Generator]:
    """Make one generator a replica; those of a seed draw the same at all learning rates."""
    return [rng for _ in config.rates for rng in generators(config, purpose)]


def initializer(config: Config) -> layers.base.Initializer:
    """Return the initializer of the weights of a config."""

    def init(
        rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        std = config.init_scale * INITS[config.init](fan_in, fan_out)
        return layers.scaled(std)(rng, shape, fan_in, fan_out)

    return init
