"""Mini-batches that are drawn anew in every epoch, against fixed ones and those of one class.

For :doc:`/book/alternatives`. With batch norm the examples of a mini-batch are normalized together,
so that a network can learn who belongs to whom. Each arm has its own best learning rate, and what
is judged is the accuracy on test examples in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bnlib._validation import check_increasing
from bnlib.experiments.engine import networks, training
from bnlib.experiments.engine.learning_curve import Accuracies, powerless
from bnlib.experiments.engine.rates import at_rate, best_for_others
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

CLAIM = "Mini-batches must be drawn anew in every epoch"
SOURCE = "Wu et al. (2023)"

MARGIN = 0.01
"""Smallest difference of test accuracies that counts: one example in a hundred, as for small
mini-batches."""

LEARNED = 0.2
"""Accuracy that one of the arms must reach: twice that of a guess among ten classes."""

ORDERS = ("anew", "fixed", "one class")
"""Mini-batches drawn in every epoch; drawn once; drawn once, of one class as far as possible."""

FACTORS = "the norm", "the mini-batches", "the number of epochs"


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    orders : pair of str
        Control and treatment, of `ORDERS`; with "again" behind it, from other seeds.
    others : tuple of str
        Further controls.
    norms : tuple of str
        Normalization of the hidden layers; each is judged by itself.
    epochs : tuple of int
        Numbers of epochs after which the arms are compared, increasing.
    rates : tuple of float
        Learning rates to choose from, increasing.
    dataset, n_train, redraw, activation, optimizer, momentum, depth, width, batch_size, seeds
        As in :class:`bnlib.experiments.engine.networks.Config`. The training examples that are not
        trained on choose the learning rates.
    first_seed : int
        As there.
    """

    orders: tuple[str, ...] = ("fixed", "anew")
    others: tuple[str, ...] = ("one class",)
    norms: tuple[networks.Norm, ...] = ("batch", "none")
    epochs: tuple[int, ...] = (4, 8, 16, 32)
    rates: tuple[float, ...] = (0.01, 0.032, 0.1, 0.32)
    dataset: str = "digits"
    n_train: int = 512
    redraw: bool = True
    activation: networks.Activation = "relu"
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    depth: int = 2
    width: int = 64
    batch_size: int = 16
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        check_two_arms(self.orders, "orders")
        networks.check_arms(ORDERS, orders=self.orders, others=self.others)
        if not set(self.norms) <= {*networks.NORMS}:
            raise ValueError(f"norms: expected some of {networks.NORMS}, got {self.norms}")
        for name in ("epochs", "rates"):
            check_increasing(name, getattr(self, name))


@dataclass(frozen=True)
class Result:
    """What `run` measured; e is the number of epochs in `Config.epochs`.

    Attributes
    ----------
    config : Config
    curves : mapping of (str, str) to Accuracies
        (order, norm) -> validation and test accuracy, (r, k, e).
    """

    config: Config
    curves: Mapping[tuple[str, str], Accuracies]

    def accuracy(self, order: str, norm: str) -> NDArray[np.float64]:
        """Test accuracy of each seed at the rate that is best for the others, (e, k)."""
        valid, test = self.curves[order, norm]
        scores = zip(np.moveaxis(valid, -1, 0), np.moveaxis(test, -1, 0), strict=True)
        return np.stack([at_rate(each, best_for_others(-chosen)) for chosen, each in scores])


def check(config: Config) -> None:
    """Raise ValueError unless there is a norm; each is judged by itself."""
    if not config.norms:
        raise ValueError("norms: expected at least one, got ()")


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train all norms with all orders.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar for each.

    Returns
    -------
    Result
        In single precision: the last digits depend on the processor.
    """
    cases = product(dict.fromkeys((*config.orders, *config.others)), config.norms)
    return Result(config, {case: _train(*case, config, progress) for case in cases})


def _train(order: str, norm: str, config: Config, progress: bool) -> Accuracies:
    kind, first = networks.arm(order, config.first_seed)
    epoch = config.n_train // config.batch_size
    trained = networks.Config.of(
        config,
        norm=norm,
        init="he" if config.activation == "relu" else "xavier",
        lr=config.rates,
        steps=epoch * config.epochs[-1],
        first_seed=first,
        dtype="float32",
    )
    every = epoch * int(np.gcd.reduce(config.epochs))
    record = {
        "valid": training.record_validation_accuracy,
        "test": training.record_test_accuracy,
    }
    made = training.train(trained, record, every=every, progress=progress, order=ITERATORS[kind])
    at = [epoch * n // every for n in config.epochs]
    scores = (made.by_rate(made.records[part][:, at]) for part in Accuracies._fields)
    return Accuracies(*(np.nan_to_num(each, nan=0.0) for each in scores))


def fixed(config: networks.Config, data: networks.Data) -> Iterator[NDArray[np.int64]]:
    """Draw the mini-batches once; only their order changes from epoch to epoch."""
    rngs, n = networks.generators(config, networks.ORDER), data.y_train.shape[-1]
    permuted = np.stack([rng.permutation(n) for rng in rngs])
    return _in_changing_order(config, permuted, rngs)


def one_class(config: networks.Config, data: networks.Data) -> Iterator[NDArray[np.int64]]:
    """Sort the examples by class and cut them into mini-batches, whose order changes."""
    rngs, n = networks.generators(config, networks.ORDER), data.y_train.shape[-1]
    labels = np.broadcast_to(data.y_train, (config.replicas, n))[: config.seeds]
    permuted = np.stack([rng.permutation(n) for rng in rngs])
    by_class = np.take_along_axis(labels, permuted, axis=1).argsort(axis=1, kind="stable")
    return _in_changing_order(config, np.take_along_axis(permuted, by_class, axis=1), rngs)


def _in_changing_order(
    config: networks.Config, examples: NDArray[np.int64], rngs: list[np.random.Generator]
) -> Iterator[NDArray[np.int64]]:
    """Cut the examples of each seed, (k, n), into mini-batches, and yield them in random order."""
    count = examples.shape[1] // config.batch_size
    batches = examples[:, : count * config.batch_size].reshape(config.seeds, count, -1)
    while True:
        for i in np.stack([rng.permutation(count) for rng in rngs], axis=1):  # (k,)
            yield np.tile(batches[np.arange(config.seeds), i], (len(config.rates), 1))


ITERATORS: Mapping[str, Callable[..., Iterator[NDArray[np.int64]]]] = MappingProxyType(
    dict(zip(ORDERS, (training.reshuffled, fixed, one_class), strict=True))
)
"""Name in `ORDERS` -> (config, data) -> indices of mini-batches."""


def judge(result: Result) -> dict[tuple[str, str, str], Verdict]:
    """Judge the claim for each norm, against each other order, after each number of epochs.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of (str, str, str) to Verdict
        By the levels of `FACTORS`. The effect is the test accuracy with the treatment minus that
        with a control. "cannot tell" where neither is better than `LEARNED`.
    """
    control, treatment = result.config.orders
    verdicts = {}
    for norm, other in product(result.config.norms, (control, *result.config.others)):
        arms = (result.accuracy(order, norm) for order in (treatment, other))
        for epochs, one, two in zip(result.config.epochs, *arms, strict=True):
            case = norm, other, f"{epochs} epochs"
            verdicts[case] = paired_verdict(
                f"{CLAIM}: {', '.join(case)}.",
                SOURCE,
                one,
                two,
                MARGIN,
                powerless=powerless(one, two, LEARNED),
            )
    return verdicts


def judge_batch_norm(result: Result) -> dict[tuple[str, str, str], Verdict]:
    """Judge the claim for batch norm alone, as `judge`."""
    return {case: verdict for case, verdict in judge(result).items() if case[0] == "batch"}
