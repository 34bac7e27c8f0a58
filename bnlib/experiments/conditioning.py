r"""Gradient descent on least squares whose features have different units, over many seeds.

Two correlated features; the second one is measured in units that make it `ratio` times as large.
One arm trains on the raw features, the other on the standardized ones. :doc:`/book/motivation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine.progress import track
from bnlib.experiments.records.verdict import Verdict, paired_verdict
from bnlib.functional import standardize
from bnlib.layers import SGD, Linear, mean_squared_error, scaled

ARMS = ("raw", "standardized")
MARGIN = float(np.log10(2))
"""Decades of steps that count as an effect: training takes twice as long."""

_MAX_STEPS = 10**6
_DIVERGED = 1e6  # times the first loss


@dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes
    ----------
    ratios : tuple of float
        Standard deviations of the second feature; the first one's is 1.
    correlation : float
        Correlation of the two features.
    noise : float
        Standard deviation of what the features do not explain.
    m, seeds, first_seed : int
        Examples, independent data sets, and the first of their seeds.
    tolerance : float
        The gap between the loss and its minimum at which training stops, as a part of the first.
    """

    ratios: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    correlation: float = 0.8
    noise: float = 0.5
    m: int = 100
    seeds: int = 16
    tolerance: float = 1e-6
    first_seed: int = 0


@dataclass(frozen=True)
class Result:
    """What `run` measured; a is the arm, in the order of `ARMS`, and r the ratio.

    Attributes
    ----------
    config : Config
    steps : ndarray of int, (a, r, k)
        Steps of gradient descent, at the best constant learning rate, to the tolerance.
    condition : ndarray, (a, r, k)
        Condition number of the Hessian.
    """

    config: Config
    steps: NDArray[np.int64]
    condition: NDArray[np.float64]


def draw(config: Config, ratio: float, seed: int) -> tuple[NDArray, NDArray]:
    """Draw one data set: correlated features in unequal units, and targets.

    Parameters
    ----------
    config : Config
    ratio : float
        Standard deviation of the second feature. It changes nothing but the unit.
    seed : int

    Returns
    -------
    x : ndarray, (m, 2)
    t : ndarray, (m, 1)
    """
    rng = np.random.default_rng(seed)
    first, other, noise = rng.standard_normal((3, config.m))
    rho = config.correlation
    x = np.stack([first, rho * first + np.sqrt(1 - rho**2) * other], axis=1)
    t = x @ rng.standard_normal((2, 1)) + config.noise * noise[:, None]
    return x * [1.0, ratio], t


def hessian(x: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Compute the Hessian of the mean squared error of a linear model, (2 / m) x^T x.

    Parameters
    ----------
    x : ndarray, (m, d) or (k, m, d)

    Returns
    -------
    ndarray, (d, d) or (k, d, d)

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.experiments.conditioning import hessian
    >>> hessian(np.array([[1.0], [3.0]]))
    array([[10.]])
    """
    return 2 / x.shape[-2] * x.swapaxes(-1, -2) @ x


def train(
    x: NDArray[np.float64], t: NDArray[np.float64], lr: NDArray[np.float64], tolerance: float
) -> NDArray[np.int64]:
    """Train a linear model from zero by gradient descent until the loss is near its minimum.

    Parameters
    ----------
    x : ndarray, (k, m, d)
        Features; of full rank for each seed.
    t : ndarray, (k, m, 1)
        Targets.
    lr : ndarray, (k,)
        Learning rates.
    tolerance : float
        Stop where loss - minimum <= tolerance (first loss - minimum).

    Returns
    -------
    ndarray of int, (k,)
        Steps that each seed needed.

    Raises
    ------
    RuntimeError
        If a seed does not arrive in a million steps, or its loss grows a millionfold.
    """
    k, _, d = x.shape
    fitted = np.stack([a @ np.linalg.lstsq(a, b)[0] for a, b in zip(x, t, strict=True)])
    minimum, first = (np.square(t - y).mean(axis=(1, 2)) for y in (fitted, 0.0))
    rngs = [np.random.default_rng(0) for _ in range(k)]
    model = Linear(d, 1, rng=rngs, init=scaled(0.0), bias=False)
    optimizer = SGD(model, lr)
    goal = tolerance * (first - minimum)
    steps = np.full(k, -1)
    for step in range(_MAX_STEPS):
        loss, d_prediction = mean_squared_error(model(x), t)
        steps[(steps < 0) & (loss - minimum <= goal)] = step
        if (steps >= 0).all():
            return steps
        if (loss > _DIVERGED * first).any():
            break
        model.backward(d_prediction)
        optimizer.step()
    raise RuntimeError(f"no convergence after {step} steps at the learning rates {lr}")


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train every arm at every ratio.

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
    The learning rate is 2 / (smallest + largest eigenvalue of the Hessian), the best constant
    one; it is computed, not searched for.
    """
    shape = len(ARMS), len(config.ratios), config.seeds
    steps, condition = np.empty(shape, np.int64), np.empty(shape)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    for j, ratio in enumerate(track(config.ratios, progress, "ratio")):
        sets = (draw(config, ratio, seed) for seed in seeds)
        x, t = (np.stack(arrays) for arrays in zip(*sets, strict=True))
        for i, features in enumerate((x, standardize(x, axes=1, eps=0.0).x_hat)):
            eigenvalues = np.linalg.eigvalsh(hessian(features))
            low, high = eigenvalues[:, 0], eigenvalues[:, -1]
            steps[i, j] = train(features, t, 2 / (low + high), config.tolerance)
            condition[i, j] = high / low
    return Result(config, steps, condition)


def judge(result: Result) -> Verdict:
    """Judge the claim that standardized features make gradient descent faster.

    Parameters
    ----------
    result : Result
        Of any ratios. With ratio 1 alone there is nothing to repair: the negative control.

    Returns
    -------
    Verdict
        The effect, in decades, is log10 of the steps with the raw features minus log10 of those
        with the standardized ones, at the largest ratio.

    Notes
    -----
    The margin was fixed before the first run. That the largest ratio is judged, and not the mean
    over the ratios, was decided after a trial with the ratios 1 and 3.
    """
    at = int(np.argmax(result.config.ratios))
    raw, standardized = np.log10(result.steps[:, at])  # (k,)
    claim = "Gradient descent is faster on standardized features than on features in unequal units."
    return paired_verdict(claim, "LeCun et al. (2012)", raw, standardized, MARGIN)
