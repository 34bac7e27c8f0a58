"""Test error over the size of the mini-batch, for norms with and without statistics of the batch.

After figure 1 of Wu and He (2018), for :doc:`/book/alternatives`. Every arm trains for the same
number of epochs, and has at each size the learning rate that is best for it on validation data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine import networks, rates, training
from bnlib.experiments.engine.probe_layers import StopGradient
from bnlib.experiments.engine.replicas import build_norm, keep_apart
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict
from bnlib.layers import BatchRenorm, GhostBatchNorm

CLAIM = "Small mini-batches break it"
SOURCE = "Wu and He (2018)"
MARGIN = 0.01
"""Smallest difference of the test error that counts: one percentage point, a tenth of what Wu and
He report for BN against GN at mini-batches of 2."""

JUDGED = (2, 4, 8)
"""Sizes of the mini-batch that the claim calls small."""

GUESSING = 0.9
"""Error of a guess among ten classes; a run that diverged counts as this."""

MEMORY = 640
"""The running statistics are averages over about so many examples, whatever the mini-batch: they
are as good at 2 as with PyTorch's momentum of 0.1 at 64."""

ARMS = ("none", "batch", "layer", "rms", "group", "tanh", "renorm", "ghost-8", "stopped")
_OF_THE_BATCH = ("batch", "renorm", "ghost", "stopped")  # a bias before these does nothing


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of str
        Arms, the control first and the treatment second; "none", "batch", "layer", "rms",
        "group", "tanh" (dynamic tanh), "renorm" (batch renormalization), or "ghost-8" for ghost
        batch norm with parts of 8 examples, or of all if the mini-batch is smaller; "stopped" is
        batch norm that passes no gradient to what is before it. "group again" is "group" from other
        seeds.
    sizes : tuple of int
        Sizes of the mini-batch, each a divisor of `n_train`.
    epochs : int
        Passes over the training examples, the same for all sizes.
    rates : tuple of float
        Learning rates to choose from, at a mini-batch of 1; multiplied by the root of the size.
    running_momentum : float or None
        Weight of the new mini-batch in the running statistics; None makes them average over
        about `MEMORY` examples.
    eps : float
        Added to the variance by the norms with statistics of the mini-batch.
    dataset, n_train, depth, width, activation, groups, optimizer, momentum, seeds, first_seed
        As in :class:`bnlib.experiments.engine.networks.Config`.
    """

    norms: tuple[str, ...] = ("group", "batch")
    sizes: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    epochs: int = 4
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03)
    running_momentum: float | None = None
    eps: float = 1e-5
    dataset: str = "digits"
    n_train: int = 1024
    depth: int = 2
    width: int = 32
    activation: networks.Activation = "relu"
    groups: int = 4
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.9
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        for norm in self.norms:
            kind, _ = networks.arm(norm)
            if kind not in ARMS and not re.fullmatch("ghost-[1-9][0-9]*", kind):
                raise ValueError(f"norms: expected some of {ARMS}, got {norm!r}")
        if any(self.n_train % size for size in self.sizes):
            raise ValueError(f"sizes: expected divisors of n_train, got {self.sizes}")


@dataclass(frozen=True)
class Result:
    """What `run` measured.

    Attributes
    ----------
    config : Config
    rate : dict of str to ndarray, (sizes,)
        Learning rate that each arm chose.
    error : dict of str to ndarray, (k, sizes)
        Test error in eval mode.
    recalibrated : dict of str to ndarray, (k, sizes)
        The same with the statistics of all training examples in place of the running ones; equal
        to `error` for the arms without running statistics.
    """

    config: Config
    rate: dict[str, NDArray[np.float64]]
    error: dict[str, NDArray[np.float64]]
    recalibrated: dict[str, NDArray[np.float64]]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train every arm at every size of the mini-batch; `progress` shows a bar for each."""
    arms = {
        norm: [_train(config, norm, size, progress) for size in config.sizes]
        for norm in dict.fromkeys(config.norms)
    }
    columns = [
        {norm: np.stack([r[i] for r in runs], -1) for norm, runs in arms.items()} for i in range(3)
    ]
    return Result(config, *columns)


def build(
    config: networks.Config, norm: str, momentum: float, eps: float = 1e-5
) -> layers.Sequential:
    """Build Linear, norm and activation for each hidden layer, and Linear.

    Parameters
    ----------
    config : bnlib.experiments.engine.networks.Config
        Its own `norm` is not used.
    norm : str
        As in `Config.norms`.
    momentum, eps : float
        Of the norms with statistics of the mini-batch.
    """
    return networks.build(
        config,
        lambda _: [
            *_norm(config, norm, momentum, eps),
            networks.ACTIVATIONS[config.activation](),
        ],
        bias=not norm.startswith(_OF_THE_BATCH),
    )


def _norm(config: networks.Config, norm: str, momentum: float, eps: float) -> list[layers.Layer]:
    width, dtype = config.width, np.dtype(config.dtype)
    options = {"seeds": config.replicas, "dtype": dtype}
    if not norm.startswith(_OF_THE_BATCH):
        return build_norm(norm, width, config.groups, config.replicas, dtype)
    options |= {"momentum": momentum, "eps": eps}
    if norm == "renorm":
        layer = BatchRenorm(width, warm_up=config.steps // 10, **options)
    else:
        part = int(norm.partition("-")[2] or config.batch_size)
        layer = GhostBatchNorm(width, min(part, config.batch_size), **options)
    keep_apart(layer)
    return [StopGradient(), layer] if norm == "stopped" else [layer]


def _train(
    config: Config, norm: str, size: int, progress: bool
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the chosen rate and both errors, (k,)."""
    norm, first = networks.arm(norm, config.first_seed)
    trained = networks.Config.of(
        config,
        first_seed=first,
        batch_size=size,
        steps=config.epochs * config.n_train // size,
        lr=tuple(float(rate * size**0.5) for rate in config.rates),
        dtype="float32",
    )
    running_momentum = config.running_momentum
    if running_momentum is None:
        running_momentum = size / MEMORY
    result = training.train(
        trained,
        {"error": _errors},
        every=trained.steps,
        progress=progress,
        build=partial(build, norm=norm, momentum=running_momentum, eps=config.eps),
    )
    errors = result.by_rate(result.records["error"][:, -1])  # (rates, k, 3)
    valid, test, recalibrated = np.moveaxis(np.nan_to_num(errors, nan=GUESSING), -1, 0)
    best = int(rates.best(valid.mean(axis=1)))
    return trained.rates[best], test[best], recalibrated[best]


def _errors(state: training.State) -> NDArray[np.float64]:
    """Score the validation data, the test data, and the test data recalibrated, (replicas, 3)."""
    if state.step < state.config.steps:
        return np.full((state.config.replicas, 3), np.nan)
    data = state.data
    valid = _error(state, data.x_valid, data.y_valid)
    test = _error(state, data.x_test, data.y_test)
    with_statistics = [each for each in state.network if isinstance(each, layers.BatchNorm)]
    recalibrated = test
    if with_statistics:
        _recalibrate(state, with_statistics)
        recalibrated = _error(state, data.x_test, data.y_test)
    return np.stack([valid, test, recalibrated], axis=-1)


def _error(state: training.State, x: NDArray, y: NDArray) -> NDArray[np.float64]:
    return (training.predict(state, x).argmax(axis=-1) != y).mean(axis=-1)


def _recalibrate(state: training.State, norms: list[layers.BatchNorm]) -> None:
    """Set the running statistics to those of all training examples, layer by layer."""
    x = state.data.x_train
    x = np.broadcast_to(x, (state.config.replicas, *x.shape))
    state.network.eval()
    for layer in state.network:
        if layer in norms:
            layer.running.update(x.mean(axis=1), x.var(axis=1), x.shape[1], momentum=1.0)
        x = layer(x)
    state.network.train()


def check(config: Config) -> None:
    """Raise ValueError if there is nothing to judge: fewer than two norms, or no small size."""
    check_two_arms(config.norms[:2])
    if not {*config.sizes} & {*JUDGED}:
        raise ValueError(f"sizes: expected one of {JUDGED} among them, got {config.sizes}")


def judge(result: Result) -> dict[str, Verdict]:
    """Judge for each small size whether the second norm has more test error than the first.

    Parameters
    ----------
    result : Result
        Of two norms, group norm and batch norm by default; of a norm and the same again, the
        negative control.

    Returns
    -------
    dict of str to Verdict
        One for each size in `JUDGED` that was trained.

    Raises
    ------
    ValueError
        As `check`.
    """
    check(result.config)
    control, treatment = (result.error[norm] for norm in result.config.norms[:2])
    return {
        f"mini-batch {size}": paired_verdict(
            f"{CLAIM}, at {size} examples.", SOURCE, treatment[:, i], control[:, i], MARGIN
        )
        for i, size in enumerate(result.config.sizes)
        if size in JUDGED
    }
