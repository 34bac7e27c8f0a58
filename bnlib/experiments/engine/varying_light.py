"""Images whose light varies, and small convolutional networks that are trained on them.

All replicas of an arm are one network with a leading seed axis of rates x seeds; seeds run faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bnlib import datasets, layers
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.progress import track
from bnlib.experiments.engine.replicas import keep_apart
from bnlib.experiments.engine.statistics_modes import batch_norms, recalibrate

Array = NDArray[np.floating]
Lamps = list[np.random.Generator]

DATASETS = ("mnist_subset", "photos")
SIZE = 12  # height and width of an image
DTYPE = np.float32
WARM_UP = 0.2  # share of the steps in which the learning rate rises
RECALIBRATION = 20  # mini-batches
_WEIGHTS, _ORDER, _LIGHT, _TEST, _CONTROL = range(5)  # what a stream of random numbers is for


class Config(Protocol):
    """What the functions here read of a config, as :mod:`bnlib.experiments.convolution` has it."""

    rates: tuple[float, ...]
    seeds: int
    steps: int
    batch_size: int
    channels: int
    n_valid: int
    n_test: int
    brightness: float
    contrast: float
    activation: str
    optimizer: str
    momentum: float
    first_seed: int


def training(config: Config) -> networks.Config:
    """Return how the networks are trained; raise ValueError if that is not possible."""
    return networks.Config(
        activation=config.activation,
        optimizer=config.optimizer,
        momentum=config.momentum,
        lr=config.rates,
        seeds=config.seeds,
    )


def load(dataset: str) -> datasets.Dataset:
    """Load images of shape (n, 1, 12, 12) in [0, 1]."""
    if dataset == "photos":
        return datasets.photo_patches(4000, 1000, size=SIZE, rng=0, dtype=DTYPE)
    data = datasets.mnist_subset(dtype=DTYPE)
    x_train, x_test = (
        x[..., 2:-2, 2:-2].reshape(-1, 1, SIZE, 2, SIZE, 2).mean(axis=(3, 5))
        for x in (data.x_train, data.x_test)
    )
    return data._replace(x_train=x_train, x_test=x_test)


def split(
    data: datasets.Dataset, config: Config
) -> tuple[datasets.Dataset, Array, NDArray[np.int64]]:
    """Take validation images off the training set, and as many test images as asked for."""
    valid, test = slice(config.n_valid), slice(config.n_test)
    if config.n_test > len(data.x_test) or config.n_valid + config.batch_size > len(data.x_train):
        raise ValueError(
            f"n_valid, n_test: expected at most {len(data.x_train) - config.batch_size} and "
            f"{len(data.x_test)}, got {config.n_valid} and {config.n_test}"
        )
    rest = datasets.Dataset(
        data.x_train[config.n_valid :],
        data.y_train[config.n_valid :],
        data.x_test[test],
        data.y_test[test],
    )
    return rest, data.x_train[valid], data.y_train[valid]


class Standardize(layers.Layer):
    """Shift and scale with the mean and the standard deviation of all training pixels.

    Parameters
    ----------
    x : ndarray
        The training images, under constant light.
    """

    def __init__(self, x: Array) -> None:
        super().__init__()
        self.shift, self.scale = x.mean(), x.std()

    def _forward(self, x: Array) -> tuple[Array, tuple[()]]:
        return (x - self.shift) / self.scale, ()

    def _backward(self, dy: Array, cache: tuple[()]) -> Array:
        return dy / self.scale


def build(arm: str, config: Config, data: datasets.Dataset) -> layers.Sequential:
    """Build the network of an arm, with one replica for each rate and seed.

    Two convolutions (3 x 3, stride 2, no padding) with He's initial weights, each followed by the
    norm of the arm and an activation function, and a linear layer.
    """
    purpose = _CONTROL if arm == "control" else _WEIGHTS
    rngs = [rng for _ in config.rates for rng in _generators(config, purpose)]
    c, side = config.channels, 2  # 12 -> 5 -> 2 pixels

    def block(c_in: int) -> Iterator[layers.Layer]:
        yield layers.Conv2d(c_in, c, 3, stride=2, rng=rngs, dtype=DTYPE)
        if arm == "batch":
            yield keep_apart(layers.BatchNorm(c, seeds=len(rngs), dtype=DTYPE))
        if arm == "instance":
            yield layers.InstanceNorm(c, seeds=len(rngs), dtype=DTYPE)
        yield networks.ACTIVATIONS[config.activation]()

    head = layers.Linear(c * side**2, int(data.y_train.max()) + 1, rng=rngs, dtype=DTYPE)
    return layers.Sequential(
        Standardize(data.x_train),
        *block(1),
        *block(c),
        layers.Flatten(),
        head,
    )


def train(
    network: layers.Sequential,
    data: datasets.Dataset,
    light: str,
    config: Config,
    progress: bool = False,
) -> None:
    """Take all steps; the rate rises to its value, then falls to 0.

    Without the rise, some seeds of the arm "none" train badly under varying light at rates that
    serve the other seeds best, and two such arms differ by more than chance: the negative control
    fails.
    """
    rates = np.repeat(config.rates, config.seeds)
    rise = WARM_UP * config.steps
    fixed, trained = network[0], network[1:]
    optimizer = networks.build_optimizer(training(config), trained)
    steps = track(range(config.steps), progress, "step")
    for step, (x, y) in zip(steps, _batches(data, light, config), strict=False):
        optimizer.lr = rates * min((step + 1) / rise, 1 - step / config.steps)
        _, dlogits = layers.softmax_cross_entropy(trained(fixed(x)), y)
        trained.backward(dlogits, input_gradient=False)
        optimizer.step()


def in_mode(
    mode: str, network: layers.Sequential, data: datasets.Dataset, light: str, config: Config
) -> layers.Sequential:
    """Return the network in a mode; "recalibrated" is a copy in eval mode with new statistics."""
    if mode == "recalibrated":
        batches = islice(_batches(data, light, config), RECALIBRATION)
        return recalibrate(network, (x for x, _ in batches))
    return network.train() if mode == "train" else network.eval()


def lit_batches(x: Array, light: str, config: Config) -> list[Array]:
    """Return mini-batches (seeds, m, 1, h, w) of images that all seeds share, each lit anew."""
    lamps = _generators(config, _TEST)
    shape = config.seeds, config.batch_size, *x.shape[1:]
    return [
        _lit(np.broadcast_to(batch, shape), light, lamps, config)
        for batch in x.reshape(-1, *shape[1:])
    ]


def accuracy(
    network: layers.Sequential, batches: list[Array], y: NDArray[np.int64], config: Config
) -> Array:
    """Return the share of right answers, (rates, seeds)."""
    rates = network.seeds // config.seeds
    logits = [network(_for_all_rates(x, rates)) for x in batches]
    right = np.concatenate(logits, axis=1).argmax(axis=-1) == y
    return right.mean(axis=1).reshape(rates, config.seeds)


def pick(
    rate: int, network: layers.Sequential, arm: str, config: Config, data: datasets.Dataset
) -> layers.Sequential:
    """Return a copy of the replicas of one rate, in the same mode."""
    rows = slice(rate * config.seeds, (rate + 1) * config.seeds)
    picked = build(arm, replace(config, rates=config.rates[rate : rate + 1]), data)
    for name, parameter in picked.parameters.items():
        parameter[...] = network.parameters[name][rows]
    for to, of in zip(batch_norms(picked), batch_norms(network), strict=True):
        to.running = type(of.running)(of.running.mean[rows], of.running.var[rows])
    return picked.train() if network.training else picked.eval()


def _batches(
    data: datasets.Dataset, light: str, config: Config
) -> Iterator[tuple[Array, NDArray[np.int64]]]:
    """Yield mini-batches without end, each seed in its own order; the same for every arm."""
    order, lamps = _generators(config, _ORDER), _generators(config, _LIGHT)
    rates = len(config.rates)
    while True:
        for i in datasets.minibatches(len(data.x_train), config.batch_size, order, drop_last=True):
            x = _lit(data.x_train[i], light, lamps, config)
            yield _for_all_rates(x, rates), _for_all_rates(data.y_train[i], rates)


def _lit(x: Array, light: str, lamps: Lamps, config: Config) -> Array:
    """Light mini-batches (seeds, m, 1, h, w)."""
    strength = {"brightness": config.brightness, "contrast": config.contrast}
    if light == "constant":
        return x
    if light == "batch":
        return datasets.vary_lighting(x, lamps, **strength)
    return np.stack(
        [
            [datasets.vary_lighting(image, lamp, **strength) for image in images]
            for images, lamp in zip(x, lamps, strict=True)
        ]
    )


def _for_all_rates(x: np.ndarray, rates: int) -> np.ndarray:
    return np.tile(x, (rates, *[1] * (x.ndim - 1)))


def _generators(config: Config, purpose: int) -> Lamps:
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    return [np.random.default_rng([seed, purpose]) for seed in seeds]
