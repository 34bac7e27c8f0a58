"""Batch norm in a pretrained backbone: its statistics kept, moved by fine-tuning, or measured anew.

For :doc:`/book/fine_tuning_and_freezing`. Networks learn half of the classes, get a new output
layer, and learn the other half from few examples. What is judged is the accuracy on test examples
of the new classes, in eval mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from math import gcd
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib._validation import check_increasing
from bnlib.experiments.engine import networks, training
from bnlib.experiments.engine.learning_curve import Accuracies, powerless
from bnlib.experiments.engine.networks import Data
from bnlib.experiments.engine.rates import at_rate, best_for_others
from bnlib.experiments.engine.replicas import keep_apart
from bnlib.experiments.engine.statistics_modes import batch_norms, recalibrate
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

CLAIM = "In a pretrained network, the running statistics should be frozen"
SOURCE = "the usual advice, as Kanavati and Tsuneki (2021) report it"

MARGIN = 0.02
"""Smallest difference of test accuracies that counts, two points.

As for the place of batch norm. The standard error of a difference between accuracies of 0.9 on
some 500 images each, as we have them here, is 0.019.
"""

LEARNED = 0.4
"""Accuracy that one of the arms must reach: twice that of a guess among five classes."""

CLASSES = 5
"""The backbone learns the classes below this one; it is fine-tuned on the others."""

STATISTICS = ("frozen", "moving", "measured")
"""Running statistics that stay; train mode; those of the few new examples, which then stay."""

TRAINED = ("head", "norms", "all")
"""The output layer; gamma and beta as well; all parameters."""

FACTORS = "the light", "what is trained", "the number of steps"


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    arms : pair of str
        Control and treatment, of `STATISTICS`; with "again" behind it, from other seeds: the same
        backbones and examples, another output layer, and another order of the mini-batches.
    others : tuple of str
        Arms that are trained besides.
    trained : tuple of str
        What is trained, of `TRAINED`; each is judged by itself.
    contrasts : tuple of float
        Factors on the pixels of the new classes; the other half of the range is added, so that the
        images get paler. 1 is the light of the old classes.
    pretraining : int
        Steps on the old classes.
    pretraining_rate : float
        Learning rate there.
    rates, head_rates : tuple of float
        Learning rates of fine-tuning to choose from, increasing: where all parameters are trained,
        and where the head, or head and norms, are.
    budgets : tuple of int
        Numbers of steps of fine-tuning after which the arms are compared, increasing.
    n_train : int
        Examples of the new classes to train on. Half of the other training examples choose the
        learning rates, and the other half are tested on, too, as test examples are few.
    dataset, activation, optimizer, momentum, depth, width, batch_size, seeds, first_seed
        As in :class:`bnlib.experiments.engine.networks.Config`.
    """

    arms: tuple[str, ...] = ("moving", "frozen")
    others: tuple[str, ...] = ("measured", "moving again")
    trained: tuple[str, ...] = TRAINED
    contrasts: tuple[float, ...] = (1.0, 0.5)
    pretraining: int = 300
    pretraining_rate: float = 0.1
    rates: tuple[float, ...] = (0.01, 0.032, 0.1, 0.32, 1.0)
    head_rates: tuple[float, ...] = (0.1, 0.32, 1.0)
    budgets: tuple[int, ...] = (50, 100, 200, 400)
    n_train: int = 100
    dataset: str = "digits"
    activation: networks.Activation = "relu"
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    depth: int = 2
    width: int = 32
    batch_size: int = 16
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        check_two_arms(self.arms, "arms")
        known = {"arms": STATISTICS, "others": STATISTICS, "trained": TRAINED}
        for name, choices in known.items():
            for value in getattr(self, name):
                if networks.arm(value)[0] not in choices:
                    raise ValueError(f"{name}: expected some of {choices}, got {value!r}")
        for name in ("rates", "head_rates", "budgets"):
            check_increasing(name, getattr(self, name))

    def rates_of(self, trained: str) -> tuple[float, ...]:
        """Return the learning rates for what is trained."""
        return self.rates if trained == "all" else self.head_rates


class Tuned(NamedTuple):
    """What became of an arm.

    Attributes
    ----------
    accuracies : Accuracies
        Of the new classes, (r, k, b), after each budget.
    moved : ndarray, (r, k)
        How far the running means are from those of pretraining at the end, in standard deviations
        of pretraining: root mean square over all features.
    """

    accuracies: Accuracies
    moved: NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    tuned : mapping of (str, str, float) to Tuned
        (arm, what is trained, contrast) -> what became of it.
    """

    config: Config
    tuned: Mapping[tuple[str, str, float], Tuned]

    def rate(self, arm: str, trained: str, contrast: float, steps: int) -> NDArray[np.int64]:
        """Index of each seed's learning rate, (k,): the best for the others' validation data."""
        valid = self.tuned[arm, trained, contrast].accuracies.valid
        return best_for_others(-valid[..., self.config.budgets.index(steps)])

    def accuracy(self, arm: str, trained: str, contrast: float, steps: int) -> NDArray[np.float64]:
        """Test accuracy of each seed after so many steps, at its rate, (k,)."""
        test = self.tuned[arm, trained, contrast].accuracies.test
        rate = self.rate(arm, trained, contrast, steps)
        return at_rate(test[..., self.config.budgets.index(steps)], rate)

    def moved(self, arm: str, trained: str, contrast: float) -> NDArray[np.float64]:
        """How far the running means have moved at the end, at each seed's rate, (k,)."""
        rate = self.rate(arm, trained, contrast, self.config.budgets[-1])
        return at_rate(self.tuned[arm, trained, contrast].moved, rate)


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Pretrain the backbones, and fine-tune them in all arms.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    Result
        In single precision: the last digits depend on the processor.
    """
    arms = dict.fromkeys((*config.arms, *config.others))
    backbone = pretrain(config, progress=progress)
    cases = product(arms, config.trained, config.contrasts)
    return Result(config, {case: _tune(backbone, *case, config, progress) for case in cases})


def pretrain(config: Config, *, progress: bool = False) -> layers.Sequential:
    """Train one network a seed on the old classes.

    Parameters
    ----------
    config : Config
    progress : bool

    Returns
    -------
    Sequential
        In train mode, with a leading axis of seeds.
    """
    made = _made(config, lr=config.pretraining_rate, steps=config.pretraining)
    network = build(made, "moving")
    old = select(networks.load(config.dataset, None, made.dtype), new=False)
    training.train(made, every=made.steps + 1, progress=progress, build=lambda _: network, data=old)
    return network


def select(data: Data, *, new: bool, contrast: float = 1.0) -> Data:
    """Keep the examples of the new or of the old classes, with labels from 0 on.

    Parameters
    ----------
    data : bnlib.experiments.engine.networks.Data
        Without a leading axis of replicas.
    new : bool
    contrast : float
        Factor on the pixels; the rest of their range, which ends at 1, is added.

    Returns
    -------
    bnlib.experiments.engine.networks.Data
    """
    kept: list[NDArray] = []
    for x, y in zip(data[::2], data[1::2], strict=True):
        chosen = (y >= CLASSES) == new
        c = x.dtype.type(contrast)
        kept += [c * x[chosen] + (1 - c), y[chosen] - CLASSES * new]
    return Data(*kept)


def split(data: Data) -> Data:
    """Test on half of the validation examples, too.

    Parameters
    ----------
    data : bnlib.experiments.engine.networks.Data
        With a leading axis of replicas in the training and the validation set, r of them.

    Returns
    -------
    bnlib.experiments.engine.networks.Data
        With a leading axis in the test set, too.
    """
    half, replicas = data.y_valid.shape[1] // 2, len(data.y_valid)

    def joined(valid: NDArray, test: NDArray) -> NDArray:
        own = np.broadcast_to(test, (replicas, *test.shape))
        return np.concatenate([own, valid[:, half:]], axis=1)

    return data._replace(
        x_valid=data.x_valid[:, :half],
        y_valid=data.y_valid[:, :half],
        x_test=joined(data.x_valid, data.x_test),
        y_test=joined(data.y_valid, data.y_test),
    )


class Kept(layers.BatchNorm):
    """Batch norm whose train mode is eval mode, so that its statistics stay."""

    def train(self) -> Self:
        """Switch to eval mode."""
        return self.eval()


def build(config: networks.Config, statistics: str) -> layers.Sequential:
    """Build networks with batch norm and `CLASSES` outputs.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
    statistics : str
        One of `STATISTICS`.

    Returns
    -------
    Sequential
        In eval mode but for "moving", until the next ``train()``; that leaves the norms so.

    Examples
    --------
    >>> from bnlib.experiments.engine import networks
    >>> build(networks.Config(depth=1, norm="batch", seeds=2), "moving")
    Sequential(
      (0): Linear(64, 64, bias=False, seeds=2)
      (1): BatchNorm(64, seeds=2)
      (2): ReLU()
      (3): Linear(64, 5, seeds=2)
    )
    """
    kind = layers.BatchNorm if statistics == "moving" else Kept

    def behind(_: int) -> list[layers.Layer]:
        norm = kind(config.width, seeds=config.replicas, dtype=config.dtype)
        return [keep_apart(norm), networks.ACTIVATIONS[config.activation]()]

    *hidden, head = networks.build(config, behind)
    head = layers.Linear(
        head.parameters["weight"].shape[-2],
        CLASSES,
        rng=networks.replica_generators(config, networks.TEST),
        init=networks.initializer(config),
        dtype=config.dtype,
    )
    network = layers.Sequential(*hidden, head)
    return network.train()


def _tune(
    backbone: layers.Sequential,
    arm: str,
    trained: str,
    contrast: float,
    config: Config,
    progress: bool,
) -> Tuned:
    statistics, first_seed = networks.arm(arm, config.first_seed)
    rates, n_train = config.rates_of(trained), config.n_train
    drawn = _made(config, lr=rates, steps=config.budgets[-1], n_train=n_train, redraw=True)
    new = select(networks.load(config.dataset, None, drawn.dtype), new=True, contrast=contrast)
    data = split(networks.redraw(drawn, new))
    made = replace(drawn, first_seed=first_seed)
    network = build(made, statistics)
    _copy(backbone, network, len(rates))
    old = [deepcopy(norm.running) for norm in batch_norms(network)]
    if statistics == "measured":
        source = build(made, "moving")
        _copy(backbone, source, len(rates))
        measured = batch_norms(recalibrate(source, [data.x_train]))
        for norm, other in zip(batch_norms(network), measured, strict=True):
            norm.running = other.running

    every = gcd(*config.budgets)

    def record(state: training.State) -> NDArray[np.floating]:
        if state.step not in config.budgets:
            return np.zeros((made.replicas, 3))
        norms = batch_norms(state.network)
        pairs = [(norm.running, before) for norm, before in zip(norms, old, strict=True)]
        shifts = [(now.mean - then.mean) ** 2 / (then.var + 1e-5) for now, then in pairs]
        moved = np.sqrt(np.mean(shifts, axis=(0, 2)))
        accuracies = (
            score(state)
            for score in (training.record_validation_accuracy, training.record_test_accuracy)
        )
        return np.stack([*accuracies, moved], axis=-1)

    def optimizer(made: networks.Config, network: layers.Sequential) -> layers.SGD | layers.Adam:
        fixed = [name for name in network.parameters if not _is_trained(name, trained, network)]
        return networks.build_optimizer(made, network, [{"names": fixed, "lr": 0.0}])

    run = training.train(
        made,
        {"scores": record},
        every=every,
        progress=progress,
        build=lambda _: network,
        optimizer=optimizer,
        data=data,
    )
    at = [steps // every for steps in config.budgets]
    scores = run.by_rate(run.records["scores"])[:, :, at]
    accuracies = np.moveaxis(np.nan_to_num(scores[..., :2], nan=0.0), -1, 0)
    return Tuned(Accuracies(*accuracies), scores[:, :, -1, 2])


def _made(config: Config, **others: Any) -> networks.Config:
    init = "he" if config.activation == "relu" else "xavier"
    fixed = {"norm": "batch", "init": init, "dtype": "float32"}
    return networks.Config.of(config, **{"n_train": None, **fixed, **others})


def _copy(source: layers.Sequential, target: layers.Sequential, rates: int) -> None:
    """Give the hidden layers of each rate the parameters and statistics of all seeds."""

    def tiled(array: NDArray) -> NDArray:
        return np.tile(array, (rates, *[1] * (array.ndim - 1)))

    head = len(target) - 1
    for name, parameter in target.parameters.items():
        if not name.startswith(f"{head}."):
            parameter[...] = tiled(source.parameters[name])
    for norm, old in zip(batch_norms(target), batch_norms(source), strict=True):
        norm.running.mean = tiled(old.running.mean)
        norm.running.var = tiled(old.running.var)


def _is_trained(name: str, trained: str, network: layers.Sequential) -> bool:
    """Tell whether a parameter is trained: those of the head always are."""
    layer, parameter = name.split(".")
    of_head = int(layer) == len(network) - 1
    return of_head or trained == "all" or (trained == "norms" and parameter in ("gamma", "beta"))


def judge(result: Result) -> dict[tuple[str, str, str], Verdict]:
    """Judge whether the statistics should be frozen, by the test accuracy.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of (str, str, str) to Verdict
        As `compare`.
    """
    return compare(result, *result.config.arms)


def compare(result: Result, control: str, treatment: str) -> dict[tuple[str, str, str], Verdict]:
    """Judge how much more accurate one arm is than another.

    Parameters
    ----------
    result : Result
    control, treatment : str
        Arms of the result.

    Returns
    -------
    dict of (str, str, str) to Verdict
        By the levels of `FACTORS`, each arm at its own best rate. "cannot tell" where neither is
        better than `LEARNED`.
    """
    config, verdicts = result.config, {}
    for contrast, trained, steps in product(config.contrasts, config.trained, config.budgets):
        one, two = (result.accuracy(arm, trained, contrast, steps) for arm in (treatment, control))
        light = "same light" if contrast == 1 else f"contrast {contrast:g}"
        case = light, trained, f"{steps} steps"
        verdicts[case] = paired_verdict(
            f"{CLAIM}: {', '.join(case)}.",
            SOURCE,
            one,
            two,
            MARGIN,
            powerless=powerless(one, two, LEARNED),
        )
    return verdicts
