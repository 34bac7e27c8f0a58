"""Dropout with and without batch norm: what it gains, and whether the two may be combined.

For :doc:`/book/regularization`. Each arm has the learning rate and the probability of dropout that
are best for it on validation data, and each network is read at its own least validation loss. Each
seed has its own training examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from bnlib.experiments.engine import networks
from bnlib.experiments.engine.regularizers import (
    LOSS,
    PLACES,
    Curves,
    Place,
    build,
    check_places,
    tuned,
)
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

SOURCES = {
    "reduces-need-for-dropout": "Ioffe and Szegedy (2015)",
    "never-with-dropout": "a rule of thumb, after Li et al. (2019)",
}
MARGIN = 0.05
"""Smallest difference of cross-entropies that counts: the true class gets 5 % more probability."""

Norm = Literal["none", "batch", "layer", "identity", "none again", "batch again"]

NEED_FACTORS = "the data", "the depth", "the seeds"
"""In what the settings differ in which the chapter asks about the need for dropout."""

CASES = {
    "every": "behind every ReLU",
    "before": "before every BN",
    "last": "behind the last BN",
}
Key = tuple[str, str]


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : pair of str
        Control and treatment of "it reduces the need for dropout"; the second is what dropout is
        combined with in "it must never be combined with dropout".
    probabilities : tuple of float
        Probabilities of dropout to choose from, all above 0.
    places : tuple of {"every", "before", "last"}
        Dropout behind every ReLU, before every norm, or behind the last ReLU only. The first is
        the one in which the norms are compared.
    dataset, n_train, redraw, depth, width, batch_size, steps, momentum, seeds, first_seed
        As in :class:`bnlib.experiments.engine.networks.Config`.
    rates, tuning_seeds, every
        As in :class:`bnlib.experiments.regularization.Config`.
    """

    norms: tuple[Norm, ...] = ("none", "batch")
    probabilities: tuple[float, ...] = (0.1, 0.3, 0.5)
    places: tuple[Place, ...] = PLACES
    dataset: str = "mnist1d"
    n_train: int = 1000
    redraw: bool = True
    depth: int = 2
    width: int = 64
    batch_size: int = 64
    steps: int = 300
    rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    momentum: float = 0.9
    seeds: int = 16
    first_seed: int = 0
    tuning_seeds: int = 3
    every: int = 30

    def __post_init__(self) -> None:
        check_two_arms(self.norms)
        if not {*self.norms} <= {*get_args(Norm)}:
            raise ValueError(f"norms: expected two of {get_args(Norm)}, got {self.norms}")
        check_places(self.places)
        if not self.probabilities or not all(0 < p < 1 for p in self.probabilities):
            raise ValueError(
                f"probabilities: expected numbers between 0 and 1, got {self.probabilities}"
            )


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    curves : mapping of (str, str) to Curves
        (norm, place of dropout, or "no" for none) -> the options chosen, and the scores.
    """

    config: Config
    curves: Mapping[Key, Curves]

    def gain(self, norm: str, place: str) -> np.ndarray:
        """Return how much dropout lowers the test cross-entropy, (k,)."""
        return self.curves[norm, "no"].stopped() - self.curves[norm, place].stopped()

    def best_place(self) -> str:
        """Return the place with the least validation loss for the second norm."""
        norm = self.config.norms[1]
        losses = [self.curves[norm, p].stopped(LOSS, "valid").mean() for p in self.config.places]
        return self.config.places[int(np.argmin(losses))]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train every norm without dropout and with it, the second norm with it in all places.

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
    control, treatment = config.norms
    keys = [(control, "no"), (control, config.places[0]), (treatment, "no")]
    keys += [(treatment, place) for place in config.places]
    return Result(config, {key: _train(key, config, progress) for key in dict.fromkeys(keys)})


def _train(key: Key, config: Config, progress: bool) -> Curves:
    norm, place = key
    norm, first = networks.arm(norm, config.first_seed)
    trained = networks.Config.of(config, lr=config.rates, first_seed=first, dtype="float32")

    def options(p: float) -> dict[str, Any]:
        return {"build": partial(build, norm=norm, p=p, place="every" if p == 0 else place)}

    return tuned(
        trained,
        options,
        (0.0,) if place == "no" else config.probabilities,
        tuning_seeds=config.tuning_seeds,
        every=config.every,
        progress=progress,
    )


def judge_need(result: Result) -> Verdict:
    """Judge the claim that BN reduces the need for dropout.

    Parameters
    ----------
    result : Result
        With the second norm the first one again, it is the negative control.

    Returns
    -------
    Verdict
        The effect is the gain of dropout without BN minus its gain with BN. The gain is how much
        dropout lowers the test cross-entropy.
    """
    control, treatment = (
        result.gain(norm, result.config.places[0]) for norm in result.config.norms
    )
    claim, source = "It reduces the need for dropout.", SOURCES["reduces-need-for-dropout"]
    return paired_verdict(claim, source, control, treatment, MARGIN)


def judge_combination(result: Result, place: str, alone: Curves | None = None) -> Verdict:
    """Judge the claim that BN must not be combined with dropout in one place.

    Parameters
    ----------
    result : Result
    place : str
        One of the places of the config.
    alone : Curves, optional
        The control, in place of the second norm without dropout.

    Returns
    -------
    Verdict
        The effect is the harm: the test cross-entropy with dropout minus that without. Negative
        means that dropout helps, and refutes the claim.
    """
    norm = result.config.norms[1]
    without = result.curves[norm, "no"] if alone is None else alone
    claim = f"It must never be combined with dropout ({CASES[place]})."
    harmed = result.curves[norm, place].stopped()
    return paired_verdict(claim, SOURCES["never-with-dropout"], harmed, without.stopped(), MARGIN)


def judge_never(result: Result) -> Verdict:
    """Judge the claim that BN must never be combined with dropout.

    At the place that is best on validation data: one place in which dropout helps refutes "never".
    """
    return judge_combination(result, result.best_place())


def judge(result: Result) -> dict[str, Verdict]:
    """Judge both claims, as `judge_need` and `judge_never`.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of str to Verdict
        Keys of `SOURCES`.
    """
    return {
        "reduces-need-for-dropout": judge_need(result),
        "never-with-dropout": judge_never(result),
    }
