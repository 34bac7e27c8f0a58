"""Train one layer with a backward pass that takes the batch statistics for constants.

After section 2 of :cite:t:`ioffe2015batch`: if the gradient ignores that the mean depends on the
bias, the bias grows without end while the loss stays the same.

The layer is y = BN(x w + b) without gamma and beta; the target is slope * <x, v> + offset + noise
with a unit vector v. The arms of a seed see the same mini-batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine.progress import track
from bnlib.experiments.records.verdict import Verdict, paired_verdict
from bnlib.functional import batch_norm_backward, batch_norm_forward

ARMS = ("correct", "detached")
SOURCE = "Ioffe and Szegedy (2015)"
LOSS_MARGIN = 0.015  # 1 % of the loss at the end, see `Result.best_loss`
BIAS_MARGIN = 1.0  # the offset of the target, which is all that a bias could be of use for
LAST = 100  # steps at the end over which the loss is averaged


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    seeds, steps, examples, features : int
        Repetitions, updates, examples of a mini-batch, and features of the input.
    lr : float
        Learning rate.
    slope, offset, noise : float
        Of the target: what multiplies the projection of the input, what is added to it, and the
        standard deviation of what the input does not explain.
    treatment : {"correct", "detached"}
        Backward pass of the second arm: "detached", or "correct" for the negative control, in which
        both arms are the same.
    first_seed : int
        The others follow it.
    """

    seeds: int = 16
    steps: int = 500
    examples: int = 64
    features: int = 10
    lr: float = 0.5
    slope: float = 2.0
    offset: float = 1.0
    noise: float = 1.0
    treatment: Literal["correct", "detached"] = "detached"
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.treatment not in ARMS:
            raise ValueError(f"treatment: expected one of {ARMS}, got {self.treatment!r}")


@dataclass(frozen=True)
class Result:
    """One row a seed, (k, steps); keys of the mappings: `ARMS`."""

    config: Config
    loss: dict[str, NDArray[np.float64]]
    bias: dict[str, NDArray[np.float64]]
    weight_norm: dict[str, NDArray[np.float64]]
    removed: dict[str, NDArray[np.float64]]  # share of the squared upstream gradient that P removes

    def theory(self) -> NDArray[np.float64]:
        """Norm of w under the detached backward once w points along v, (steps,).

        With <x, w> / norm(w) = x_hat, <w, dw> = mean((x_hat - target) x_hat) = 1 - slope, so a
        small step adds 2 lr (slope - 1) to the squared norm, which starts at 1.
        """
        c = self.config
        return np.sqrt(1 + 2 * c.lr * (c.slope - 1) * np.arange(c.steps))

    def best_loss(self) -> float:
        """Loss at the best weights: y has slope 1 and offset 0, whatever the weights are."""
        c = self.config
        return ((c.slope - 1) ** 2 + c.offset**2 + c.noise**2) / 2


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train both arms on the same data.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result

    Examples
    --------
    >>> from bnlib.experiments.detached_statistics import Config, run
    >>> run(Config(seeds=2, steps=3)).loss["detached"].shape
    (2, 3)
    """
    backward = dict(zip(ARMS, ("correct", config.treatment), strict=True))
    arms = {arm: _train(config, backward[arm]) for arm in track(ARMS, progress, "arm")}
    return Result(config, *({arm: rows[i] for arm, rows in arms.items()} for i in range(4)))


def judge(result: Result) -> dict[str, Verdict]:
    """Compare the arms, paired by seed: the size of the bias at the end, and the loss.

    Returns
    -------
    dict of str to Verdict
        "bias" (its absolute value, in units of the target; margin `BIAS_MARGIN`) and "loss" (its
        mean over the last `LAST` steps; margin `LOSS_MARGIN`).
    """
    bias = {arm: np.abs(rows[:, -1]) for arm, rows in result.bias.items()}
    loss = {arm: rows[:, -LAST:].mean(axis=1) for arm, rows in result.loss.items()}
    return {
        "bias": _compare("makes the bias grow", bias, BIAS_MARGIN),
        "loss": _compare("raises the loss", loss, LOSS_MARGIN),
    }


def _compare(effect: str, arms: dict[str, NDArray[np.float64]], margin: float) -> Verdict:
    claim = f"A backward pass that takes the statistics for constants {effect}."
    return paired_verdict(claim, SOURCE, arms["detached"], arms["correct"], margin)


def _train(config: Config, arm: str) -> NDArray[np.float64]:
    """Loss, bias, norm of the weights and removed share at each step, (4, k, steps)."""
    c = config
    seeds = range(c.first_seed, c.first_seed + c.seeds)
    rngs = [np.random.default_rng(seed) for seed in seeds]
    v = _unit(np.stack([rng.normal(size=(c.features, 1)) for rng in rngs]))  # (k, features, 1)
    w = _unit(np.stack([rng.normal(size=(c.features, 1)) for rng in rngs]))
    b = np.zeros((c.seeds, 1))
    history = np.empty((4, c.seeds, c.steps))
    for step in range(c.steps):
        x = np.stack([rng.normal(size=(c.examples, c.features)) for rng in rngs])
        y, cache = batch_norm_forward(x @ w + b[:, None], axes=1)  # (k, m, 1)
        noise = np.stack([rng.normal(scale=c.noise, size=(c.examples, 1)) for rng in rngs])
        error = y - (c.slope * x @ v + c.offset + noise)
        history[0, :, step] = (error**2).mean(axis=(1, 2)) / 2
        history[1, :, step] = b[:, 0]
        history[2, :, step] = np.linalg.norm(w, axis=(1, 2))
        detached = error / c.examples * cache.inv_std[:, None]  # mean and variance as constants
        correct, _, _ = batch_norm_backward(error / c.examples, cache)
        history[3, :, step] = 1 - (correct**2).sum((1, 2)) / (detached**2).sum((1, 2))
        dz = correct if arm == "correct" else detached
        w = w - c.lr * x.transpose(0, 2, 1) @ dz
        b = b - c.lr * dz.sum(axis=1)
    return history


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
