"""Watch networks fail at too large a learning rate: some explode, and others die.

:doc:`/book/learning_rate_and_convergence`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.training import State, train
from bnlib.experiments.records.verdict import Verdict, paired_verdict
from bnlib.measure import capture_outputs

EXPLODED = 10 * float(np.log(10))
"""A run explodes when the loss of a mini-batch is above this, ten times that of guessing."""

DEAD = -3.0
"""A run is dead when its last hidden layer varies between examples less than 10**DEAD times as
much as at the start: the output no longer depends on the input."""

MARGIN = 1.0
"""Decades that the last layer must grow more than the first: more than chance does to one layer."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norms : tuple of str
        What is trained; the claim is about the first, which has no norm.
    rates : tuple of float
        Learning rates.
    depth, width, batch_size, steps : int
        Hidden layers, units in each, examples of a mini-batch, and updates.
    seeds, first_seed : int
        Number of seeds, and the first of them.
    """

    norms: tuple[networks.Arm, ...] = ("none", "batch")
    rates: tuple[float, ...] = (0.1, 0.32, 1.0, 3.2)
    depth: int = 6
    width: int = 32
    batch_size: int = 32
    steps: int = 60
    seeds: int = 32
    first_seed: int = 0


@dataclass(frozen=True)
class Result:
    """What `run` measured; n is the norm, r the rate, k the seed, t the step, l the hidden layer.

    Attributes
    ----------
    config : Config
    loss : ndarray, (n, r, k, steps + 1)
        Of the mini-batch; NaN from where it is not finite.
    activation : ndarray, (n, r, k, steps + 1, l)
        log10 of the root mean square of each hidden layer's output, relative to step 0.
    signal : ndarray, (n, r, k, steps + 1)
        log10 of the standard deviation over the examples (root mean square over the units) of
        the last hidden layer's output, relative to step 0.
    """

    config: Config
    loss: NDArray[np.float64]
    activation: NDArray[np.float64]
    signal: NDArray[np.float64]

    @property
    def exploded(self) -> NDArray[np.bool_]:
        """Whether the loss ever left all bounds, (n, r, k)."""
        return ~(self.loss <= EXPLODED).all(axis=-1)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Whether the run did not explode, but lost the signal, (n, r, k)."""
        return ~self.exploded & (self.signal[..., -1] < DEAD)

    def at_explosion(self, norm: int = 0) -> NDArray[np.float64]:
        """Take the activations of the runs that exploded, (j, l), at the last finite step of it.

        Parameters
        ----------
        norm : int
            Number of the norm.

        Returns
        -------
        ndarray, (j, l)
            One row for each run, of any rate, whose loss was bounded at step 0. The step is the
            first whose loss is above `EXPLODED`, or the one before where that loss is not finite.
        """
        rows = []
        for i in zip(*np.nonzero(self.exploded[norm]), strict=True):
            loss, activation = self.loss[norm][i], self.activation[norm][i]
            step = int(np.argmin(loss <= EXPLODED))
            step -= not np.isfinite(activation[step]).all()
            if step > 0:
                rows.append(activation[step])
        return np.reshape(rows, (-1, self.config.depth))


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train at every rate and record the size and the signal of the hidden layers.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar for each norm.

    Returns
    -------
    Result
    """
    arms = [_train(config, norm, progress) for norm in config.norms]
    return Result(config, *(np.array([arm[i] for arm in arms]) for i in range(3)))


def _train(config: Config, norm: str, progress: bool) -> tuple[NDArray[np.float64], ...]:
    plain = networks.Config.of(config, norm=norm, lr=config.rates)
    result = train(plain, {"size": _record}, progress=progress)
    size = result.by_rate(result.records["size"])
    relative = size - size[:, :, :1]
    return result.by_rate(result.loss), relative[..., :-1], relative[..., -1]


def _record(state: State) -> NDArray[np.float64]:
    """Compute log10 of the RMS of each hidden layer, and of the signal, (replicas, l + 1)."""
    network = state.network
    hidden = [i for i, layer in enumerate(network) if isinstance(layer, layers.ReLU)]
    with capture_outputs(network, hidden) as outputs:
        network(state.x)
    smallest = np.finfo(np.float64).tiny
    squares = [np.square(outputs[i]).mean(axis=(-2, -1)) for i in hidden]
    squares.append(outputs[hidden[-1]].var(axis=-2).mean(axis=-1))
    return 0.5 * np.log10(np.maximum(np.stack(squares, axis=1), smallest))


def check(config: Config) -> None:
    """Raise ValueError unless the first norm is "none"."""
    if not config.norms or config.norms[0] != "none":
        raise ValueError(f"norms: expected none as the first, got {config.norms}")


def judge(result: Result) -> Verdict:
    """Judge the claim that activations grow with depth where a network without norm explodes.

    Parameters
    ----------
    result : Result
        Whose first norm is "none"; at least two runs exploded.

    Returns
    -------
    Verdict
        The effect, in decades, is how much more the last hidden layer has grown than the first;
        `seeds` is the number of runs that exploded.

    Raises
    ------
    ValueError
        As `check`, or if fewer than two runs exploded.
    """
    check(result.config)
    rows = result.at_explosion()
    if len(rows) < 2:
        raise ValueError(f"result: expected two runs that explode, got {len(rows)}")
    claim = "Activations grow with depth where training explodes."
    return paired_verdict(claim, "Bjorck et al. (2018)", rows[:, -1], rows[:, 0], MARGIN)
