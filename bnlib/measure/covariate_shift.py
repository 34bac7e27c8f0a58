r"""Internal covariate shift as the change of a layer's gradient when the layers before it move."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnlib.layers import SGD, Adam, Sequential
from bnlib.layers.base import Array
from bnlib.measure._replica import Loss, check_network, cosine, flatten, gradient_at, norm, shared
from bnlib.measure.activations import layer_numbers


class CovariateShift(NamedTuple):
    r"""Internal covariate shift of n layers in one step.

    Attributes
    ----------
    layers : tuple of int
        Numbers of the layers in the network.
    difference : array, shape (n,) or (n, k)
        :math:`\lVert G - G' \rVert` of each layer and seed.
    cosine : array, shape (n,) or (n, k)
        Cosine of the angle between G and G'; NaN where one of them is zero.
    """

    layers: tuple[int, ...]
    difference: NDArray[np.float64]
    cosine: NDArray[np.float64]


def covariate_shift(
    network: Sequential,
    optimizer: SGD | Adam,
    loss: Loss,
    x: Array,
    target: ArrayLike,
    layers: Sequence[int] | None = None,
) -> CovariateShift:
    r"""Measure how much the next step of the layers before it changes a layer's gradient.

    .. math::
        G_i = \nabla_{W_i} L(W_1^{(t)}, \ldots, W_n^{(t)}; x), \qquad
        G'_i = \nabla_{W_i} L(W_1^{(t+1)}, \ldots, W_{i-1}^{(t+1)}, W_i^{(t)}, \ldots,
        W_n^{(t)}; x)

    :cite:t:`santurkar2018how`, section 2.2.

    Parameters
    ----------
    network : Sequential
        Its parameters are those of step t. A nested Sequential counts as one layer, whose W are
        all its parameters.
    optimizer : SGD or Adam
        The optimizer of `network`, which makes the step from t to t + 1 on this mini-batch.
    loss : callable
        (output, target) -> (loss, gradient of the output), as
        :func:`bnlib.layers.softmax_cross_entropy`.
    x, target : array, shape (m, ...) or (k, m, ...)
        The mini-batch of step t; both gradients are of this one.
    layers : sequence of int, optional
        Numbers of the layers to measure; by default all that have parameters.

    Returns
    -------
    CovariateShift

    Raises
    ------
    TypeError
        `network` is not a Sequential, or a number is not an integer.
    ValueError
        The optimizer belongs to another network, there is no such layer, it has no parameters,
        or it is named twice.

    Notes
    -----
    All is computed on copies: network, running statistics, generators and optimizer stay exactly
    as they were. The gradients of all copies see the same dropout masks. Cost: a forward and a
    backward pass for each layer, and two.

    Nothing stands before the first layer, so its shift is zero.

    Examples
    --------
    A product of two weights of 1, fitted to 0. The step halves the first weight, and the gradient
    of the second, 2 w1 (w1 w2), falls from 2 to 0.5:

    >>> import numpy as np
    >>> from bnlib.layers import SGD, Linear, Sequential, mean_squared_error
    >>> from bnlib.measure import covariate_shift
    >>> one = dict(rng=np.random.default_rng(0), init=lambda *_: np.ones((1, 1)), bias=False)
    >>> network = Sequential(Linear(1, 1, **one), Linear(1, 1, **one))
    >>> x, target = np.array([[1.0]]), np.array([[0.0]])
    >>> covariate_shift(network, SGD(network, 0.25), mean_squared_error, x, target)
    CovariateShift(layers=(0, 1), difference=array([0. , 1.5]), cosine=array([1., 1.]))
    """
    if not isinstance(network, Sequential):
        raise TypeError(f"network: expected a Sequential, got {type(network).__name__}")
    check_network(network)
    if getattr(optimizer, "network", None) is not network:
        raise ValueError("optimizer: expected the optimizer of network, got another one")
    if layers is None:
        layers = [i for i, layer in enumerate(network) if layer.parameters]
    numbers = layer_numbers(layers, len(network))
    for i in numbers:
        if not network[i].parameters:
            raise ValueError(f"layers: expected layers with parameters, {i} is {network[i]!r}")
    before = gradient_at(network, loss, x, target)[1]
    moved = _after_step(network, optimizer, loss, x, target)
    differences, cosines = [], []
    for i in numbers:
        preceding = {name: value for name, value in moved.items() if _number(name) < i}
        after = gradient_at(network, loss, x, target, preceding)[1]
        g, g_moved = (
            flatten({name: a for name, a in gradients.items() if _number(name) == i}, network.seeds)
            for gradients in (before, after)
        )
        differences.append(norm(g - g_moved))
        cosines.append(cosine(g, g_moved))
    return CovariateShift(numbers, np.array(differences), np.array(cosines))


def _after_step(
    network: Sequential, optimizer: SGD | Adam, loss: Loss, x: Array, target: ArrayLike
) -> Mapping[str, Array]:
    """Return the parameters of step t + 1."""
    replica, its_optimizer = copy.deepcopy((network, optimizer), shared(network))
    replica.backward(loss(replica(x), target)[1], input_gradient=False)
    its_optimizer.step()
    return replica.parameters


def _number(name: str) -> int:
    """Return the number of the layer that holds the parameter of this name."""
    return int(name.split(".", 1)[0])
