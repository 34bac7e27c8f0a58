"""Whether units saturate, at initialization and after training, and whether they can be trained.

For :doc:`/book/motivation`. Sigmoid and tanh networks from weights of usual size, and from weights
so large that most units are saturated without batch norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib._validation import check_increasing
from bnlib.experiments.engine import networks, statistics_modes, training
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

CLAIMS = {
    "healthy": "Activations stay in a healthy range",
    "fewer": "Fewer units saturate",
    "trainable": "Networks with saturating units become trainable",
}
SOURCE = "Ioffe and Szegedy (2015)"

SATURATED = 0.9
"""A tanh counts as saturated beyond -0.9 or 0.9, a sigmoid below 0.05 or above 0.95.

Its slope is then less than 19 % of the largest one.
"""

LIMIT = 0.25
"""Share of saturated outputs that is still healthy: less than one in four.

Of standard normal inputs, which batch norm starts with, a tanh saturates for 14 %, a sigmoid for
0.3 %.
"""

MARGIN = 0.05
"""Smallest difference that counts, of shares of saturated outputs and of accuracies."""

FACTORS = "the activation function", "the scale of the weights", "the time"


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    activations : tuple of {"sigmoid", "tanh"}
        Activation functions of the hidden layers.
    norms : pair of str
        Control and treatment.
    scales : tuple of float
        Factors on the standard deviation of the weights, relative to Xavier.
    rates : tuple of float
        Learning rates to choose from.
    budgets : tuple of int
        Rising numbers of steps after which the networks are scored.
    dataset, n_train, optimizer, momentum, depth, width, batch_size, seeds, first_seed
        As in :class:`bnlib.experiments.engine.networks.Config`.
    """

    activations: tuple[Literal["sigmoid", "tanh"], ...] = ("sigmoid", "tanh")
    norms: tuple[networks.Arm, ...] = ("none", "batch")
    scales: tuple[float, ...] = (1.0, 10.0)
    rates: tuple[float, ...] = (0.01, 0.1, 1.0)
    budgets: tuple[int, ...] = (100, 200, 400, 800)
    dataset: str = "digits"
    n_train: int = 1000
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    depth: int = 4
    width: int = 32
    batch_size: int = 32
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        check_two_arms(self.norms)
        if not set(self.activations) <= {"sigmoid", "tanh"}:
            raise ValueError(f"activations: expected sigmoid and tanh, got {self.activations}")
        check_increasing("budgets", self.budgets)


Arm = tuple[str, str, float]


@dataclass(frozen=True)
class Result:
    """What `run` measured; t is 1 + the number of budgets, entry 0 is before the first step.

    Attributes
    ----------
    config : Config
    saturated : mapping of (str, str, float) to ndarray, (t, k, depth)
        (activation, norm, scale) -> share of the outputs of each hidden layer that are saturated,
        on test data in eval mode, at the rate that each seed's validation data choose.
    accuracy : mapping of (str, str, float) to ndarray, (t, k)
        Test accuracy of the same networks.
    """

    config: Config
    saturated: Mapping[Arm, NDArray[np.float64]]
    accuracy: Mapping[Arm, NDArray[np.float64]]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train all networks.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result
        The same for the same config.

    Notes
    -----
    Before the first step there are no running statistics yet, so batch norm has those of the
    training examples. A network that diverges has the accuracy 0, and all its outputs count as
    saturated.
    """
    arms = [*product(config.activations, dict.fromkeys(config.norms), config.scales)]
    scores = {arm: _train(*arm, config, progress) for arm in arms}
    saturated = {arm: each[..., 1:] for arm, each in scores.items()}
    return Result(config, saturated, {arm: each[..., 0] for arm, each in scores.items()})


def _train(
    activation: str, norm: str, scale: float, config: Config, progress: bool
) -> NDArray[np.float64]:
    """Test accuracy and shares of saturated outputs at the chosen rates, (t, k, 1 + depth)."""
    ends = (0, *config.budgets)
    trained = networks.Config.of(
        config,
        activation=activation,
        norm=norm,
        init="xavier",
        init_scale=scale,
        steps=ends[-1],
        lr=config.rates,
        dtype="float32",
    )
    every = int(np.gcd.reduce(config.budgets))
    record = {"scores": partial(_score, ends=ends)}
    made = training.train(trained, record, every=every, progress=progress)
    scores = made.by_rate(made.records["scores"])[:, :, [end // every for end in ends]]
    scores = np.where(np.isnan(scores), [0, 0, *[1] * config.depth], scores)  # (rates, k, t, ...)
    best = scores[..., 0].argmax(axis=0)  # (k, t)
    chosen = np.take_along_axis(scores, best[None, ..., None], axis=0)[0]
    return chosen[..., 1:].swapaxes(0, 1)


def _score(state: training.State, ends: tuple[int, ...]) -> NDArray[np.floating]:
    """Return validation and test accuracy, and the share of saturated outputs by layer."""
    replicas, depth = state.config.replicas, state.config.depth
    if state.step not in ends:
        return np.full((replicas, 2 + depth), np.nan)
    network, data = state.network, state.data
    if state.step == 0:
        x = np.broadcast_to(data.x_train, (replicas, *data.x_train.shape))
        network = statistics_modes.recalibrate(network, [x])
    network.eval()
    h = np.broadcast_to(data.x_valid, (replicas, *data.x_valid.shape))
    valid = (network(h).argmax(axis=-1) == data.y_valid).mean(axis=-1)
    h = np.broadcast_to(data.x_test, (replicas, *data.x_test.shape))
    shares = []
    for layer in network:
        h = layer(h)
        if isinstance(layer, layers.Sigmoid | layers.Tanh):
            centred = 2 * h - 1 if isinstance(layer, layers.Sigmoid) else h
            shares.append((np.abs(centred) > SATURATED).mean(axis=(1, 2)))
    network.train()
    test = (h.argmax(axis=-1) == data.y_test).mean(axis=-1)
    return np.stack([valid, test, *shares], axis=-1)


def judge(result: Result) -> dict[tuple[str, str, str], Verdict]:
    """Judge the claim that with batch norm activations stay in a healthy range.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of (str, str, str) to Verdict
        By the levels of `FACTORS`, at the start and after the last step. The effect is how far the
        share of saturated outputs with the second norm stays below `LIMIT`, in the hidden layer
        where it is largest.
    """
    return {
        case: paired_verdict(_claim("healthy", case), SOURCE, LIMIT - worst, 0 * worst, 0.0)
        for case, (_, worst) in _shares(result).items()
    }


def judge_difference(result: Result) -> dict[tuple[str, str, str], Verdict]:
    """Judge whether fewer outputs are saturated with the second norm than with the first.

    Parameters
    ----------
    result : Result
        With the second norm the first one again, or the identity, it is the negative control.

    Returns
    -------
    dict of (str, str, str) to Verdict
        As for `judge`; the effect is the share with the first norm minus that with the second.
    """
    return {
        case: paired_verdict(_claim("fewer", case), SOURCE, *shares, MARGIN)
        for case, shares in _shares(result).items()
    }


def judge_training(result: Result) -> dict[tuple[str, str, str], Verdict]:
    """Judge the claim that batch norm makes networks with saturating units trainable.

    Parameters
    ----------
    result : Result
        As for `judge_difference`.

    Returns
    -------
    dict of (str, str, str) to Verdict
        By activation function, scale of the weights and number of steps. The effect is the test
        accuracy with the second norm minus that with the first.
    """
    config, verdicts = result.config, {}
    for activation, scale in product(config.activations, config.scales):
        none, norm = (result.accuracy[activation, norm, scale] for norm in config.norms)
        for i, steps in enumerate(config.budgets, start=1):
            case = activation, f"s = {scale:g}", f"{steps} steps"
            verdicts[case] = paired_verdict(
                _claim("trainable", case), SOURCE, norm[i], none[i], MARGIN
            )
    return verdicts


def _shares(result: Result) -> dict[tuple[str, str, str], NDArray[np.float64]]:
    """Largest share of saturated outputs of a hidden layer, of both norms, (2, k)."""
    config, shares = result.config, {}
    for activation, scale in product(config.activations, config.scales):
        arms = [result.saturated[activation, norm, scale].max(axis=-1) for norm in config.norms]
        for i, time in ((0, "at the start"), (-1, f"after {config.budgets[-1]} steps")):
            shares[activation, f"s = {scale:g}", time] = np.stack([arm[i] for arm in arms])
    return shares


def _claim(name: str, case: tuple[str, ...]) -> str:
    return f"{CLAIMS[name]}: {', '.join(case)}."
