"""Compare gradients that are accumulated over small parts with those of the mini-batch.

A mini-batch is cut into parts of equal size, and the gradients of the parts are averaged. Without
batch norm that is the gradient of the mini-batch; with it each part has its own statistics. The
networks are new, with He's weights, so that nothing but the cutting differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.progress import track
from bnlib.experiments.records.verdict import Verdict, check_two_arms, paired_verdict

MARGIN = 0.05  # of the length of the gradient: a learning rate is rarely known to 5 %


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes
    ----------
    norms : tuple of str
        Norms of `bnlib.experiments.engine.networks`, the control first.
    parts : tuple of int
        Into how many parts the mini-batch is cut; divisors of `batch_size`.
    batch_size : int
        Examples of the mini-batch.
    depth, width : int
        Hidden ReLU layers, and units in each.
    seeds, first_seed : int
        As in `bnlib.experiments.engine.networks.Config`.

    Raises
    ------
    ValueError
        If a number of parts does not divide the mini-batch into parts of at least two.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    parts: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    batch_size: int = 64
    depth: int = 3
    width: int = 64
    seeds: int = 16
    first_seed: int = 0

    def __post_init__(self) -> None:
        for k in self.parts:
            if k < 1 or self.batch_size % k or self.batch_size < 2 * k:
                raise ValueError(
                    f"parts: expected divisors of batch_size={self.batch_size} that leave parts "
                    f"of at least two, got {k}"
                )


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes
    ----------
    config : Config
    error : array, (norms, parts, seeds)
        Length of the difference of the two gradients, relative to that of the mini-batch.
    cosine : array, (norms, parts, seeds)
        Of the angle between them.
    noise : array, (norms, seeds)
        For comparison: the relative difference to the gradient of another mini-batch.
    """

    config: Config
    error: NDArray[np.float64]
    cosine: NDArray[np.float64]
    noise: NDArray[np.float64]


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Compute both gradients for each norm, number of parts and seed.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result
    """
    shape = (len(config.norms), len(config.parts), config.seeds)
    error, cosine, noise = np.empty(shape), np.empty(shape), np.empty((shape[0], shape[2]))
    for i, norm in enumerate(track(config.norms, progress, "norm")):
        model = networks.Config.of(config, norm=norm)
        network = networks.build(model)
        data = networks.load(model.dataset)
        draws = networks.generators(model, networks.ORDER)
        m = config.batch_size
        chosen = np.stack([r.permutation(len(data.x_train))[: 2 * m] for r in draws])
        x, y = data.x_train[chosen[:, :m]], data.y_train[chosen[:, :m]]  # (k, m, d), (k, m)
        whole = gradient(network, x, y)
        other = gradient(network, data.x_train[chosen[:, m:]], data.y_train[chosen[:, m:]])
        noise[i] = np.linalg.norm(other - whole, axis=1) / np.linalg.norm(whole, axis=1)
        for j, parts in enumerate(config.parts):
            pieces = zip(np.split(x, parts, axis=1), np.split(y, parts, axis=1), strict=True)
            mean = sum(gradient(network, *piece) for piece in pieces) / parts
            lengths = np.linalg.norm(whole, axis=1), np.linalg.norm(mean, axis=1)
            error[i, j] = np.linalg.norm(mean - whole, axis=1) / lengths[0]
            cosine[i, j] = np.vecdot(mean, whole) / (lengths[0] * lengths[1])
    return Result(config, error, cosine, noise)


def gradient(
    network: layers.Sequential, x: NDArray[np.floating], y: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the gradient of the mean cross-entropy in train mode.

    Parameters
    ----------
    network : Sequential
        With a leading axis of k seeds.
    x : array, (k, m, d)
    y : array of int, (k, m)

    Returns
    -------
    array, (k, p)
        All parameters of a seed in one row.
    """
    _, dlogits = layers.softmax_cross_entropy(network(x), y)
    network.backward(dlogits, input_gradient=False)
    return np.concatenate([g.reshape(len(x), -1) for g in network.gradients.values()], axis=1)


def check(config: Config) -> None:
    """Raise ValueError if there is nothing to judge: not two norms, or no parts."""
    check_two_arms(config.norms)
    if max(config.parts, default=1) < 2:
        raise ValueError(f"parts: expected one above 1 among them, got {config.parts}")


def judge(result: Result) -> dict[str, Verdict]:
    """Judge, for each number of parts from two, whether the gradient of the parts is farther off.

    Parameters
    ----------
    result : Result
        Of two norms, the control first.

    Returns
    -------
    dict of str to Verdict
        The effect is the relative error with the second norm minus that with the first.

    Raises
    ------
    ValueError
        As `check`.
    """
    check(result.config)
    claim = "Accumulated gradients are farther from those of the mini-batch with batch norm."
    control, treatment = result.error
    return {
        f"{parts} parts": paired_verdict(
            claim, "it has the statistics of each part", treatment[j], control[j], MARGIN
        )
        for j, parts in enumerate(result.config.parts)
        if parts > 1
    }
