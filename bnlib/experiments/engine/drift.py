"""Internal covariate shift by three definitions, as recorders of a training run.

Two linear layers of a network are measured, the middle one and the last one. The distribution of a
layer's input is looked at before the activation function, on the same examples at each step, in
train mode.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine.networks import build_optimizer
from bnlib.experiments.engine.training import State
from bnlib.layers import (
    SGD,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    softmax_cross_entropy,
)
from bnlib.measure import (
    activation_moments,
    capture_outputs,
    covariate_shift,
    hessian_vector_product,
    wasserstein_distance,
)

PROBE = 128
"""Training examples on which distributions are compared."""

DISPLACEMENT = 1e-2
"""Length of the displacement of a Hessian product: a small step of training.

A ReLU network has a kink at each of its units; a displacement that meets many of them, as a step
does, gives their mean effect instead of a lucky miss.
"""

MARGIN = 0.1
"""Decades of shift that count as an effect: a quarter more or less.

Twice the standard error, in pilot runs, of the mean over 16 seeds of the difference of two networks
that differ in nothing but their seeds. Set after pilot runs with 4 seeds, before those of the book.
"""


def measured_layers(network: Sequential) -> tuple[int, int]:
    """Return the numbers of the linear layer in the middle and of the last one."""
    linear = [i for i, layer in enumerate(network) if isinstance(layer, Linear)]
    return linear[len(linear) // 2], linear[-1]


def before_activation(network: Sequential, i: int) -> int:
    """Return the number of the layer whose output is layer i's input before its activation."""
    return i - 1 - isinstance(network[i - 1], ReLU | Sigmoid | Tanh)


def record_moments(state: State) -> NDArray[np.float64]:
    """Measure mean and standard deviation of each unit: (replicas, layers, 2, d)."""
    replica = copy.deepcopy(state.network)
    moments = [activation_moments(z) for z in inputs(replica, state)]
    return np.stack([np.stack([m.mean, m.std], axis=1) for m in moments], axis=1)


def moment_drift(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Compute how far the moments of a layer move from one record to the next.

    .. math:: \sqrt{\frac{\sum_j (\mu_j' - \mu_j)^2 + (\sigma_j' - \sigma_j)^2}{\sum_j \sigma_j^2}}

    Parameters
    ----------
    moments : ndarray, (..., t, layers, 2, d)
        Mean and standard deviation of each unit j.

    Returns
    -------
    ndarray, (..., t - 1, layers)
        In units of the standard deviation of the layer.

    Examples
    --------
    One unit of standard deviation 2 whose mean moves by 1:

    >>> import numpy as np
    >>> from bnlib.experiments.engine.drift import moment_drift
    >>> moment_drift(np.array([[[[0.0], [2.0]]], [[[1.0], [2.0]]]]))
    array([[0.5]])
    """
    moved = np.square(np.diff(moments, axis=-4)).sum(axis=(-2, -1))
    variance = np.square(moments[..., :-1, :, 1, :]).sum(axis=-1)
    return np.sqrt(moved / variance)


def record_distance(state: State) -> NDArray[np.float64]:
    """Measure the Wasserstein distance that one step causes: (replicas, layers).

    Mean over the units, in units of the standard deviation of the layer.
    """
    replica = copy.deepcopy(state.network)
    before = inputs(replica, state)
    build_optimizer(state.config, replica).step()
    after = inputs(replica, state)
    return np.stack(
        [
            wasserstein_distance(z, moved).mean(axis=-1) / np.sqrt(z.var(axis=1).mean(axis=-1))
            for z, moved in zip(before, after, strict=True)
        ],
        axis=1,
    )


def record_gradient(state: State) -> NDArray[np.float64]:
    """Measure the relative change and the cosine of the gradient: (replicas, layers, 2).

    As Santurkar et al. (2018), with the change divided by the norm of the gradient.
    """
    network = state.network
    layers = measured_layers(network)
    optimizer = SGD(network, np.repeat(state.config.rates, state.config.seeds))
    shift = covariate_shift(
        network, optimizer, softmax_cross_entropy, state.x, state.labels, layers
    )
    size = np.stack([_norm(network[i].gradients.values()) for i in layers])
    return np.stack([shift.difference / size, shift.cosine], axis=-1).swapaxes(0, 1)


def record_curvature(state: State) -> NDArray[np.float64]:
    r"""Measure the rate at which the gradient changes with the learning rate: (replicas, layers).

    To first order in the learning rate, the relative change of the gradient of layer i is the
    learning rate times

    .. math:: c_i = \frac{\lVert H_{i, \lt i}\, g_{\lt i} \rVert}{\lVert g_i \rVert}

    with the gradient g and the blocks of the Hessian H that join layer i to those before it.
    """
    network, columns = state.network, []
    for i in measured_layers(network):
        before = {name: int(name.split(".")[0]) < i for name in network.parameters}
        vector = {name: g * before[name] for name, g in network.gradients.items()}
        product = hessian_vector_product(
            network, softmax_cross_entropy, state.x, state.labels, vector, h=DISPLACEMENT
        )
        own = [value for name, value in product.items() if int(name.split(".")[0]) == i]
        columns.append(_norm(own) / _norm(network[i].gradients.values()))
    return np.stack(columns, axis=1)


def mean_gap(
    points: tuple[NDArray[np.float64], NDArray[np.float64]],
    curve: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> float:
    """Return the mean absolute height of points, (x, y), over a curve through others, (x, y).

    The curve is linear between its finite points. Points beyond its ends are left out; NaN if
    that leaves none.
    """
    x, y = points
    finite = np.isfinite(curve[0])
    order = np.argsort(curve[0][finite])
    along, height = (axis[finite][order] for axis in curve)
    inside = (x >= along[0]) & (x <= along[-1])
    gaps = np.abs(y - np.interp(x, along, height))[inside]
    return float(gaps.mean()) if inside.any() else np.nan


def inputs(network: Sequential, state: State) -> list[NDArray[np.floating]]:
    """Compute the inputs of measured layers, (replicas, m, d) each; moves running statistics."""
    x = state.data.x_train[:PROBE]
    numbers = [before_activation(network, i) for i in measured_layers(network)]
    with capture_outputs(network, numbers) as outputs:
        network(np.broadcast_to(x, (state.config.replicas, *x.shape)))
    return [outputs[i] for i in numbers]


def _norm(arrays: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Compute the Euclidean norm of each replica over all arrays, (replicas,)."""
    squares = [np.square(a, dtype=np.float64).reshape(len(a), -1).sum(axis=1) for a in arrays]
    return np.sqrt(np.sum(squares, axis=0))
