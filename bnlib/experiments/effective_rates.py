r"""Watch batch norm tune the learning rate of the weights before it, over decades of rates.

The weights before batch norm have the learning rate :math:`\eta` of the grid, all other parameters
one and the same. With eps = 0 the squared length of a weight matrix grows by exactly
:math:`\eta^2 \lVert g \rVert^2` a step. :doc:`/book/learning_rate_and_convergence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib import layers
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.training import State, train
from bnlib.experiments.records.verdict import Verdict, paired_verdict

CLAIM = "Batch norm brings unequal learning rates together."
SOURCE = "Arora et al. (2019)"

MARGIN = 0.5
"""Decades between the largest and the smallest rate that count: a step of a usual grid of rates.

Set when the results were known.
"""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    norm : {"none", "batch"}
        "none" is the negative control.
    eps : float
        Of batch norm.
    rates : tuple of float
        Learning rates of the hidden weights.
    other_rate : float
        Learning rate of all other parameters: gamma, beta and the output layer.
    depth, width, batch_size, steps, seeds, first_seed : int
        Hidden layers, units in each, examples of a mini-batch, updates, seeds, and the first of
        them.
    """

    norm: Literal["none", "batch"] = "batch"
    eps: float = 0.0
    rates: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
    other_rate: float = 0.1
    depth: int = 3
    width: int = 32
    batch_size: int = 32
    steps: int = 200
    seeds: int = 16
    first_seed: int = 0


@dataclass(frozen=True)
class Result:
    r"""What `run` measured; r is the rate, k the seed, t the step, l the hidden layer.

    Attributes
    ----------
    config : Config
    loss : ndarray, (r, k, steps + 1)
        Of the mini-batch; NaN from where the network has diverged.
    squared_norm, squared_gradient : ndarray, (r, k, steps + 1, l)
        :math:`\lVert w \rVert^2` and :math:`\lVert g \rVert^2` of each hidden weight matrix.
    """

    config: Config
    loss: NDArray[np.float64]
    squared_norm: NDArray[np.float64]
    squared_gradient: NDArray[np.float64]

    @property
    def effective_rate(self) -> NDArray[np.float64]:
        r"""Effective rate :math:`\eta / \lVert w \rVert^2`, (r, k, steps + 1, l)."""
        return self._rates / self.squared_norm

    @property
    def bound(self) -> NDArray[np.float64]:
        r"""Upper bound of `effective_rate` after each update, (r, k, steps, l).

        :math:`(2 \sum_{s<t} \lVert \tilde g_s \rVert^2)^{-1/2}`, where :math:`\tilde g = \lVert w
        \rVert g` is the gradient at unit length. The rate does not occur in it.
        """
        unit = self.squared_norm * self.squared_gradient
        return 1 / np.sqrt(2 * np.cumsum(unit[:, :, :-1], axis=2))

    @property
    def growth(self) -> NDArray[np.float64]:
        r"""Growth of the squared length in each update, (r, k, steps, l)."""
        return np.diff(self.squared_norm, axis=2)

    @property
    def predicted_growth(self) -> NDArray[np.float64]:
        r"""What it is for orthogonal gradients, :math:`\eta^2 \lVert g \rVert^2`; as `growth`."""
        return self._rates**2 * self.squared_gradient[:, :, :-1]

    @property
    def _rates(self) -> NDArray[np.float64]:
        return np.reshape(self.config.rates, (-1, 1, 1, 1))


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train at every rate, and record the lengths of the hidden weights and of their gradients.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result

    Notes
    -----
    With eps = 0 a constant feature raises ValueError, as batch norm is not defined for it.
    """
    plain = networks.Config.of(config, lr=config.rates)

    def build(plain: networks.Config) -> layers.Sequential:
        network = networks.build(plain)
        for layer in network:
            if isinstance(layer, layers.BatchNorm):
                layer.eps = config.eps
        return network

    def optimizer(plain: networks.Config, network: layers.Sequential) -> layers.SGD:
        rates = np.repeat(plain.rates, plain.seeds)
        groups = [{"names": _hidden_weights(network), "lr": rates}]
        return layers.SGD(network, config.other_rate, groups=groups)

    record = {"squared_norm": _squared_norms, "squared_gradient": _squared_gradients}
    result = train(plain, record, progress=progress, build=build, optimizer=optimizer)
    lengths = {name: result.by_rate(values) for name, values in result.records.items()}
    return Result(config, result.by_rate(result.loss), **lengths)


def check(config: Config) -> None:
    """Raise ValueError if there are fewer than two rates to compare."""
    if len({*config.rates}) < 2:
        raise ValueError(f"rates: expected at least two, got {config.rates}")


def judge(result: Result) -> Verdict:
    """Judge the claim that batch norm tunes the learning rate of the weights before it.

    Parameters
    ----------
    result : Result
        Of at least two rates at which no network diverged. Without norm, and at rates that hardly
        move the weights, it is the negative control.

    Returns
    -------
    Verdict
        The effect, in decades, is how far the effective rates lie apart at the start, minus how
        far they do after the last update; mean over the hidden layers. Rates at which a network
        diverged are left out.

    Raises
    ------
    ValueError
        As `check`, or if fewer than two rates are left.
    """
    check(result.config)
    trained = np.isfinite(result.loss).all(axis=(1, 2))
    if trained.sum() < 2:
        raise ValueError(f"result: expected two rates that train, got {trained.sum()}")
    rates = np.log10(result.effective_rate[trained])  # (r, k, steps + 1, l)
    start, end = (np.ptp(rates[:, :, step], axis=0).mean(axis=-1) for step in (0, -1))
    return paired_verdict(CLAIM, SOURCE, start, end, MARGIN)


def _hidden_weights(network: layers.Sequential) -> list[str]:
    return [name for name in network.parameters if name.endswith("weight")][:-1]


def _squared_norms(state: State) -> NDArray[np.float64]:
    return _squares(state, state.network.parameters)


def _squared_gradients(state: State) -> NDArray[np.float64]:
    return _squares(state, state.network.gradients)


def _squares(state: State, arrays: dict[str, NDArray]) -> NDArray[np.float64]:
    """Sum the squares of each hidden weight matrix, (replicas, l)."""
    names = _hidden_weights(state.network)
    return np.stack([np.square(arrays[name]).sum(axis=(-2, -1)) for name in names], axis=1)
