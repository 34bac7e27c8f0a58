"""What comes out of a layer: capture it, and describe its distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np

from bnlib._validation import float_array, normalized_axes
from bnlib.layers import Layer, Sequential
from bnlib.layers.base import Array


@contextmanager
def capture_outputs(network: Sequential, layers: Sequence[int]) -> Iterator[dict[int, Array]]:
    """Keep the outputs of some layers whenever the network runs forward inside the block.

    Parameters
    ----------
    network : Sequential
        It computes what it always does, and can be trained inside the block.
    layers : sequence of int
        Numbers of layers, ``network[i]``; negative ones count from the end.

    Returns
    -------
    context manager
        It gives a dict from each number, as in `layers`, to the output of that layer in the last
        forward pass, (m, ...) or (k, m, ...). Empty before the first. The arrays are those that
        the network uses: do not change them.

    Raises
    ------
    TypeError
        `network` is not a Sequential, or a number is not an integer.
    ValueError
        There is no such layer, or one is named twice.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import BatchNorm, ReLU, Sequential
    >>> from bnlib.measure import capture_outputs
    >>> network = Sequential(BatchNorm(1), ReLU())
    >>> with capture_outputs(network, [0]) as outputs:
    ...     y = network(np.array([[1.0], [3.0]]))
    >>> outputs[0].round(3)
    array([[-1.],
           [ 1.]])
    """
    if not isinstance(network, Sequential):
        raise TypeError(f"network: expected a Sequential, got {type(network).__name__}")
    chosen = dict(zip(layers, layer_numbers(layers, len(network)), strict=True))
    outputs: dict[int, Array] = {}
    for name, i in chosen.items():
        # A partial, not a closure: a deep copy of the network then records into its own dict.
        network[i].forward = partial(  # type: ignore[method-assign]
            _record, network[i], outputs, name
        )
    try:
        yield outputs
    finally:
        for i in chosen.values():
            del network[i].forward


def _record(layer: Layer, outputs: dict[int, Array], name: int, x: Array) -> Array:
    outputs[name] = type(layer).forward(layer, x)
    return outputs[name]


def layer_numbers(layers: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the numbers of distinct layers, counted from the front."""
    for i in layers:
        if isinstance(i, bool) or not isinstance(i, int | np.integer):
            raise TypeError(f"layers: expected integers, got {i!r}")
        if not -count <= i < count:
            raise ValueError(f"layers: expected numbers of {count} layers, got {i}")
    numbers = tuple(int(i) % count for i in layers)
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"layers: expected distinct layers, got {list(layers)}")
    return numbers


class Moments(NamedTuple):
    """Moments of a distribution, or differences of them; arrays of one shape, one entry a unit.

    Attributes
    ----------
    mean, std : array, shape of the kept axes
        Mean and standard deviation, with the divisor m.
    skewness, kurtosis : array, shape of the kept axes
        Third and fourth moment of the standardized values: 0 and 3 for a Gaussian; NaN for a
        constant unit.
    """

    mean: Array
    std: Array
    skewness: Array
    kurtosis: Array


def activation_moments(activations: Array, axes: int | Sequence[int] = -2) -> Moments:
    """Compute the first four moments of each unit over the examples.

    Parameters
    ----------
    activations : array, shape (..., m, d)
        Leading axes, such as steps or seeds, are kept.
    axes : int or sequence of int
        Axes to average over: the default is that of the mini-batch; (-4, -2, -1) takes images
        (..., n, c, h, w) by channel; (-2, -1) takes a layer as a whole.

    Returns
    -------
    Moments
        Of the kept axes, in float64.

    Raises
    ------
    TypeError
        `activations` are not floating-point numbers, or an axis is not an integer.
    ValueError
        There are no activations, or an axis is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.measure import activation_moments
    >>> activation_moments(np.array([[0.0], [0.0], [0.0], [4.0]])).kurtosis.round(3)
    array([2.333])
    """
    return moments_of(*checked_activations("activations", activations, axes))


def moments_of(a: Array, axes: tuple[int, ...]) -> Moments:
    """Compute the moments of activations that have been checked."""
    # Relative to the first example: the mean of equal numbers may differ from them by rounding.
    first = a[tuple(slice(1 if i in axes else None) for i in range(a.ndim))]
    shifted = a - first
    mean = shifted.mean(axis=axes, keepdims=True)
    centred = shifted - mean
    std = np.sqrt(np.square(centred).mean(axis=axes, keepdims=True))
    with np.errstate(invalid="ignore"):  # 0 / 0 of a constant unit
        z = centred / std
    third, fourth = ((z**n).mean(axis=axes) for n in (3, 4))
    return Moments((first + mean).squeeze(axes), std.squeeze(axes), third, fourth)


def activation_percentiles(
    activations: Array, q: Sequence[float] = (15, 50, 85), axes: int | Sequence[int] = -2
) -> Array:
    """Compute percentiles of each unit over the examples.

    Parameters
    ----------
    activations : array, shape (..., m, d)
        Leading axes, such as steps or seeds, are kept.
    q : sequence of float
        Percentages in 0 to 100; the default is that of :cite:t:`ioffe2015batch`, Figure 1.
    axes : int or sequence of int
        Axes of the examples, as in :func:`activation_moments`.

    Returns
    -------
    array, shape (len(q), ...)
        Of the kept axes, in float64.

    Raises
    ------
    TypeError, ValueError
        As :func:`activation_moments`; and a percentage outside 0 to 100.

    Notes
    -----
    Between two values of the sample, the percentile is interpolated linearly.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.measure import activation_percentiles
    >>> activation_percentiles(np.arange(101.0)[:, None])
    array([[15.],
           [50.],
           [85.]])
    """
    a, axes = checked_activations("activations", activations, axes)
    percentages = np.asarray(q, dtype=float)
    if percentages.ndim != 1 or not ((percentages >= 0) & (percentages <= 100)).all():
        raise ValueError(f"q: expected a list of percentages in 0 to 100, got {q}")
    return np.percentile(a, percentages, axis=axes)


def checked_activations(
    name: str, activations: Array, axes: int | Sequence[int]
) -> tuple[Array, tuple[int, ...]]:
    """Return the activations in float64, and the axes."""
    a = float_array(name, activations).astype(np.float64)
    if a.size == 0:
        raise ValueError(f"{name}: expected at least one value, got shape {a.shape}")
    return a, normalized_axes(axes, a.ndim)
