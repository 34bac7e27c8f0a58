"""What the variance shift of dropout costs: the statistics are recalibrated with dropout off.

For :doc:`/book/regularization`. Dropout before a batch norm lets it collect a variance that is not
there in eval mode. If this is what harms, recalibrating repairs it: the more, the more is dropped,
and not at all where no batch norm stands behind the dropout. Running and recalibrated statistics
each have the learning rate that is best for them on validation data.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.dropout import CASES as PLACE_NAMES
from bnlib.experiments.engine import networks, rates, statistics_modes, training
from bnlib.experiments.engine.regularizers import PLACES, Place, build, check_places, examples
from bnlib.experiments.records.verdict import Verdict, paired_verdict

CLAIM = "In eval mode, dropout before BN harms by its variance shift"
SOURCE = "Li et al. (2019)"
MARGIN = 0.05
"""Smallest difference of cross-entropies that counts: the true class gets 5 % more probability."""

FACTORS = "the place of the dropout", "its probability"


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    places : tuple of {"every", "before", "last"}
        As in :class:`bnlib.experiments.dropout.Config`. With "last" there is no batch norm behind
        the dropout: it is the negative control.
    probabilities : tuple of float
        Probabilities of dropout; 0 is another negative control.
    dataset, n_train, redraw, depth, width, batch_size, steps, optimizer, momentum
        As in :class:`bnlib.experiments.engine.networks.Config`.
    seeds, first_seed : int
        As there.
    rates : tuple of float
        Learning rates to choose from.
    """

    places: tuple[Place, ...] = PLACES
    probabilities: tuple[float, ...] = (0.1, 0.3, 0.5)
    dataset: str = "mnist1d"
    n_train: int = 1000
    redraw: bool = True
    depth: int = 2
    width: int = 64
    batch_size: int = 64
    steps: int = 300
    rates: tuple[float, ...] = (0.03, 0.1)
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.9
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        check_places(self.places)
        if not all(0 <= p < 1 for p in self.probabilities):
            raise ValueError(
                f"probabilities: expected numbers from 0 to below 1, got {self.probabilities}"
            )


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    losses : mapping of (str, float) to ndarray, (2, k)
        (place, probability) -> test cross-entropy in eval mode after the last step, with the
        running statistics and with recalibrated ones, each at the rate that the validation data of
        the seed choose for it.
    rates : mapping of (str, float) to ndarray, (2, k)
        These learning rates.
    """

    config: Config
    losses: Mapping[tuple[str, float], NDArray[np.float64]]
    rates: Mapping[tuple[str, float], NDArray[np.float64]]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train with dropout in every place with every probability, and recalibrate.

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
    keys = [*product(config.places, config.probabilities)]
    trained = {key: _train(*key, config, progress) for key in keys}
    losses, chosen = ({key: each[i] for key, each in trained.items()} for i in (0, 1))
    return Result(config, losses, chosen)


def _train(
    place: str, p: float, config: Config, progress: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Test losses at the chosen rates, and these rates, (2, k) each."""
    trained = networks.Config.of(config, norm="batch", lr=config.rates, dtype="float32")
    made = training.train(
        trained,
        {"losses": partial(_score, last=config.steps)},
        every=config.steps,
        progress=progress,
        build=partial(build, norm="batch", p=p, place=place),
    )
    valid, test = np.moveaxis(made.by_rate(made.records["losses"][:, -1]), -1, 0)  # (rates, k, 2)
    best = rates.best(valid)[None]  # (1, k, 2)
    chosen = np.take_along_axis(test, best, axis=0)[0]
    return chosen.T, np.asarray(config.rates)[best[0]].T


def _score(state: training.State, last: int) -> NDArray[np.floating]:
    """Losses with running and recalibrated statistics, of validation and test, (replicas, 2, 2)."""
    replicas = state.config.replicas
    if state.step < last:
        return np.full((replicas, 2, 2), np.nan)
    without = deepcopy(state.network)
    for layer in without:
        if isinstance(layer, layers.Dropout):
            layer.p = 0.0
    everything = state.data.x_train
    everything = np.broadcast_to(everything, (replicas, *everything.shape[-2:]))
    recalibrated = statistics_modes.recalibrate(without, [everything])
    losses = np.empty((replicas, 2, 2))
    for j, part in enumerate(("valid", "test")):
        x, labels = examples(state, part)
        x = np.broadcast_to(x, (replicas, *x.shape[-2:]))
        for i, network in enumerate((without.eval(), recalibrated)):
            losses[:, i, j] = layers.softmax_cross_entropy(network(x), labels)[0]
    return losses


def judge(result: Result) -> dict[tuple[str, str], Verdict]:
    """Judge how much recalibrating with dropout off gains, for each place and probability.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of (str, str) to Verdict
        By the levels of `FACTORS`. The effect is the test cross-entropy with the running statistics
        minus that with recalibrated ones.
    """
    verdicts = {}
    for (place, p), (running, recalibrated) in result.losses.items():
        case = PLACE_NAMES[place], f"p = {p:g}"
        claim = f"{CLAIM}: {', '.join(case)}."
        verdicts[case] = paired_verdict(claim, SOURCE, running, recalibrated, MARGIN)
    return verdicts
