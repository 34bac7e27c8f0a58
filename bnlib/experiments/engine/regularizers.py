"""Networks whose normalization is more or less noisy, tuned on validation data.

Shared by :mod:`bnlib.experiments.regularization` and :mod:`bnlib.experiments.dropout`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine import networks, rates, training
from bnlib.experiments.engine.probe_layers import AddPopulation, DropPopulation
from bnlib.experiments.engine.replicas import build_norm, keep_apart
from bnlib.measure import expected_calibration_error

Array = NDArray[np.floating]

LOSS, ACCURACY, CALIBRATION = range(3)  # the scores of a network
PARTS = {"train": 500, "valid": 500, "test": 1000}  # examples that are scored, at most
POPULATION = 256  # training examples with whose statistics the arm "population" normalizes, at most
TUNING = 1000  # first seed of the networks that the options are chosen with

Place = Literal["every", "before", "last"]
PLACES = get_args(Place)


def check_places(places: Sequence[str]) -> None:
    """Raise ValueError unless there are places of dropout, all of them in `PLACES`."""
    if not places or not set(places) <= set(PLACES):
        raise ValueError(f"places: expected some of {PLACES}, got {places}")


def build(
    config: networks.Config, norm: str = "none", p: float = 0.0, place: str = "every"
) -> layers.Sequential:
    """Build Linear, norm, ReLU for each hidden layer, and Linear; with dropout if p > 0.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
        Its own `norm` is not used.
    norm : str
        One of `networks.NORMS`, "population", or "ghost-8" for parts of 8 examples.
    p : float
        Probability that dropout sets an activation to 0.
    place : {"every", "before", "last"}
        Dropout behind each ReLU, before each norm, or behind the last ReLU only.
    """

    def dropout(where: bool) -> list[layers.Layer]:
        rngs = networks.replica_generators(config, networks.DROPOUT)
        return [layers.Dropout(p, rng=rngs)] if where and p > 0 else []

    def behind(i: int) -> list[layers.Layer]:
        after = place == "every" or (place == "last" and i == config.depth - 1)
        return [
            *dropout(place == "before"),
            *_norm(norm, config),
            layers.ReLU(),
            *dropout(after),
        ]

    bias = norm in networks.NORMS and norm not in networks.NO_BIAS
    network = networks.build(config, behind, bias=bias)
    if norm != "population":
        return network
    population = networks.load_replicas(config).x_train[..., :POPULATION, :]
    added = AddPopulation(population), DropPopulation(population.shape[-2])
    return layers.Sequential(added[0], *network, added[1])


def decay(
    config: networks.Config, network: layers.Sequential, names: str, decay: float
) -> layers.SGD | layers.Adam:
    """Build the optimizer of the config, with weight decay for the parameters of some names.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
    network : Sequential
    names : str
        How the names end: "gamma" for the scales of the norms, "" for all parameters.
    decay : float
    """
    chosen = [name for name in network.parameters if name.endswith(names)]
    return networks.build_optimizer(config, network, [{"names": chosen, "weight_decay": decay}])


class Curves(NamedTuple):
    """What became of one arm, over k seeds and t records, with the options chosen for it.

    Attributes
    ----------
    lr, strength : float
        Learning rate; probability of dropout or decay of gamma, 0 if there is none.
    steps : ndarray of int, (t,)
    train, valid, test : ndarray, (k, t, 3)
        Cross-entropy, accuracy and expected calibration error in eval mode.
    """

    lr: float
    strength: float
    steps: NDArray[np.int64]
    train: Array
    valid: Array
    test: Array

    def stopped(self, score: int = LOSS, part: str = "test") -> Array:
        """Return the score of each seed at its least validation loss, (k,)."""
        best = self.valid[..., LOSS].argmin(axis=1)
        return getattr(self, part)[np.arange(len(best)), best, score]

    def at_loss(self, level: float, score: int = LOSS) -> Array:
        """Return the test score where the training loss first falls to a level, (k,).

        Linear between two records; NaN for a seed whose loss does not fall so far.
        """
        values = np.full(len(self.train), np.nan)
        for seed, loss in enumerate(self.train[..., LOSS]):
            below = np.flatnonzero(loss <= level)
            if len(below) and below[0] > 0:
                i = slice(below[0] - 1, below[0] + 1)
                values[seed] = np.interp(-level, -loss[i], self.test[seed, i, score])
        return values


Arm = Callable[[float], dict[str, Any]]
"""Strength -> the keywords `build` and `optimizer` of :func:`training.train`."""


def tuned(
    config: networks.Config,
    arm: Arm,
    strengths: Sequence[float] = (0.0,),
    *,
    tuning_seeds: int,
    every: int,
    progress: bool = False,
) -> Curves:
    """Choose the learning rate and the strength on validation data, then train all seeds with them.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
        With all learning rates.
    arm : callable
        Strength -> keywords of `training.train`.
    strengths : sequence of float
    tuning_seeds : int
        Networks for the choice; they have other seeds than those of the result.
    every, progress
        As in `training.train`.

    Returns
    -------
    Curves
    """
    trial = replace(config, seeds=tuning_seeds, first_seed=config.first_seed + TUNING)
    record = {"loss": _validation_loss}
    losses = []  # (strengths, rates)
    for strength in strengths:
        tried = training.train(trial, record, every=every, progress=progress, **arm(strength))
        loss = tried.by_rate(tried.records["loss"]).mean(axis=1)
        losses.append(rates.cost(loss).min(axis=-1))
    i, j = np.unravel_index(rates.best(np.ravel(losses)), np.shape(losses))
    chosen = replace(config, lr=config.rates[j])
    record = {part: partial(_scores, part=part) for part in PARTS}
    run = training.train(chosen, record, every=every, progress=progress, **arm(strengths[i]))
    return Curves(chosen.lr, strengths[i], run.steps, **run.records)


def _scores(state: training.State, part: str) -> Array:
    """Score the networks in eval mode on the first examples of a part, (replicas, 3)."""
    x, y = examples(state, part)
    logits = training.predict(state, x)
    loss, _ = layers.softmax_cross_entropy(logits, y)
    labels = np.broadcast_to(y, logits.shape[:-1])
    accuracy = (logits.argmax(axis=-1) == labels).mean(axis=-1)
    calibration = [*map(expected_calibration_error, logits, labels)]
    return np.stack([loss, accuracy, calibration], axis=-1)


def examples(state: training.State, part: str) -> tuple[Array, NDArray[np.int64]]:
    """Return the first inputs and labels of "train", "valid" or "test", as many as are scored."""
    n = PARTS[part]
    x, y = (getattr(state.data, f"{name}_{part}") for name in "xy")
    return x[..., :n, :], y[..., :n]


def _validation_loss(state: training.State) -> Array:
    x, y = examples(state, "valid")
    return layers.softmax_cross_entropy(training.predict(state, x), y)[0]


def _norm(name: str, config: networks.Config) -> list[layers.Layer]:
    dtype = np.dtype(config.dtype)
    if name.startswith("ghost-"):
        size = int(name.removeprefix("ghost-"))
        norm = layers.GhostBatchNorm(config.width, size, seeds=config.replicas, dtype=dtype)
        return [keep_apart(norm)]
    norms = build_norm(
        "batch" if name == "population" else name, config.width, 1, config.replicas, dtype
    )
    if name == "population":
        norms[0].momentum = 1.0  # eval mode: the statistics of the population, at these weights
    return norms
