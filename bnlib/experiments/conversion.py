"""What a careless conversion costs: eps, variance, momentum or order mistaken.

For :doc:`/book/conventions`. Networks are trained in PyTorch's convention, and asked in eval mode
for the test images: as they are, and with one mistake in all their norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.conventions import KERAS, PYTORCH
from bnlib.experiments.engine import networks, training
from bnlib.experiments.engine import statistics_modes as modes
from bnlib.experiments.records.verdict import Verdict, paired_verdict

Array = NDArray[np.floating]

CLAIM = "A mistake in the conversion shows in the accuracy"
SOURCE = "this book"
RIGHT = "right"
MISTAKES = ("eps", "variance", "momentum", "exchanged")

MARGIN = 0.02
"""Smallest loss of test accuracy that counts.

About the standard error of an accuracy near 0.8 on 397 images: whoever tests one converted network
would miss less. Set when the results were known.
"""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    seeds, steps, batch_size : int
        Networks, steps of gradient descent, examples of a mini-batch.
    depth, width : int
        Hidden layers, and units in each.
    lr : float
        Learning rate of plain gradient descent.
    first_seed : int
        The others follow it.
    """

    seeds: int = 16
    steps: int = 600
    batch_size: int = 4
    depth: int = 4
    width: int = 32
    lr: float = 0.05
    first_seed: int = 0


@dataclass(frozen=True)
class Result:
    """What `run` measured, for each of k seeds.

    Attributes
    ----------
    config : Config
    accuracy : mapping of str to ndarray, (k,)
        Test accuracy in eval mode: "right", and with each mistake. "eps": Keras's default in
        place of PyTorch's. "variance": multiplied by (m - 1) / m, though it is predictions that
        were to stay. "momentum": the running statistics were collected with the weights of old
        and new value exchanged. "exchanged": running mean and variance in each other's place.
    error : mapping of str to ndarray, (k,)
        Root mean square of what the mistake changes in the logits, divided by that of the logits.
    """

    config: Config
    accuracy: Mapping[str, Array]
    error: Mapping[str, Array]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train the networks and convert them, rightly and wrongly.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result
        The same for the same config.
    """
    trained = training.train(
        networks.Config.of(config, norm="batch"),
        {"measured": partial(_measure, config)},
        every=config.steps,
        progress=progress,
        build=lambda c: modes.track(networks.build(c), _momenta()),
    ).records["measured"][:, -1]  # (k, 2, mistakes)
    by_name = [dict(zip((RIGHT, *MISTAKES), trained[:, i].T, strict=True)) for i in (0, 1)]
    return Result(config, *by_name)


def judge(result: Result) -> dict[str, Verdict]:
    """Judge for each mistake whether it lowers the accuracy.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of str to Verdict
        By `MISTAKES`. The effect is the test accuracy of the right conversion minus that of the
        one with the mistake.
    """
    right = result.accuracy[RIGHT]
    return {
        mistake: paired_verdict(
            f"{CLAIM}: {mistake}.", SOURCE, right, result.accuracy[mistake], MARGIN
        )
        for mistake in MISTAKES
    }


def _momenta() -> tuple[float, float]:
    return PYTORCH.momentum, 1 - PYTORCH.momentum


def _measure(config: Config, state: training.State) -> Array:
    """Measure the test accuracy and the relative error of each network, (k, 2, mistakes)."""
    if state.step < config.steps:
        return np.full((config.seeds, 2, 1 + len(MISTAKES)), np.nan)
    x = np.broadcast_to(state.data.x_test, (config.seeds, *state.data.x_test.shape))
    logits = [_converted(config, state.network, name)(x) for name in (RIGHT, *MISTAKES)]
    accuracy = [(z.argmax(axis=-1) == state.data.y_test).mean(axis=-1) for z in logits]
    size = np.sqrt(np.square(logits[0]).mean(axis=(1, 2)))
    error = [np.sqrt(np.square(z - logits[0]).mean(axis=(1, 2))) / size for z in logits]
    return np.stack([np.stack(accuracy, -1), np.stack(error, -1)], axis=1)


def _converted(config: Config, network: layers.Sequential, mistake: str) -> layers.Sequential:
    """Return a copy in eval mode in which every norm carries the mistake."""
    network = modes.in_eval_mode(network, _momenta()[mistake == "momentum"])
    for norm in (layer for layer in network if isinstance(layer, layers.BatchNorm)):
        if mistake == "eps":
            norm.eps = KERAS.eps
        elif mistake == "variance":
            norm.running.var = norm.running.var * (config.batch_size - 1) / config.batch_size
        elif mistake == "exchanged":
            gamma, beta = norm.parameters["gamma"].copy(), norm.parameters["beta"].copy()
            norm.parameters["gamma"][:], norm.parameters["beta"][:] = beta, gamma
    return network
