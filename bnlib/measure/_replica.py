"""Losses and gradients computed on a copy of a network, so that the network stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnlib.layers import Layer
from bnlib.layers.base import Array

Loss = Callable[[Array, Any], tuple[Array, Array]]
Vectors = NDArray[np.float64]


def gradient_at(
    network: Layer,
    loss: Loss,
    x: Array,
    target: ArrayLike,
    parameters: Mapping[str, Array] | None = None,
) -> tuple[Array, Mapping[str, Array]]:
    """Return loss and gradients; `parameters` replace those of the same names.

    Each call starts from a fresh copy with its generators, so all calls draw the same dropout
    masks. The gradients are new arrays.
    """
    check_network(network)
    replaced = {} if parameters is None else parameters
    memo = shared(network)
    for name, p in network.parameters.items():  # the copy refers to these instead of a copy of p
        memo[id(p)] = replaced[name].astype(p.dtype, copy=False) if name in replaced else p
    replica = copy.deepcopy(network, memo)
    value, doutput = loss(replica(x), target)
    replica.backward(doutput, input_gradient=False)
    return value, replica.gradients


def shared(network: Layer) -> dict[int, Any]:
    """Return the memo of a deep copy that shares what no layer ever writes into.

    This is what the layers remember of their last input, often more than all the rest, and their
    gradients.
    """
    leaves = network._leaves() if hasattr(network, "_leaves") else [network]
    kept = [*(leaf._cache for leaf in leaves), *network.gradients.values()]
    return {id(each): each for each in kept}


def check_network(network: Layer) -> None:
    """Refuse what is not a layer with parameters."""
    if not isinstance(network, Layer):
        raise TypeError(f"network: expected a Layer, got {type(network).__name__}")
    if not network.parameters:
        raise ValueError("network: expected at least one parameter, got none")


def flatten(arrays: Mapping[str, Array], seeds: int | None) -> Vectors:
    """Join arrays into one vector, or one for each seed: (p,) or (k, p), in float64."""
    shape = (-1,) if seeds is None else (seeds, -1)
    joined = [np.reshape(array, shape) for array in arrays.values()]
    return np.concatenate(joined, axis=-1, dtype=np.float64)


def unflatten(vectors: Vectors, like: Mapping[str, Array], seeds: int | None) -> dict[str, Array]:
    """Cut what `flatten` joined into arrays of the shapes of `like`."""
    sizes = [array.size // (seeds or 1) for array in like.values()]
    parts = np.split(vectors, np.cumsum(sizes)[:-1], axis=-1)
    return {
        name: part.reshape(array.shape)
        for (name, array), part in zip(like.items(), parts, strict=True)
    }


def norm(vectors: Vectors) -> Vectors:
    """Euclidean length along the last axis, without underflow of the squares."""
    largest = np.abs(vectors).max(axis=-1, keepdims=True)
    scale = np.where((largest > 0) & (largest < np.inf), largest, 1.0)
    return scale[..., 0] * np.linalg.norm(vectors / scale, axis=-1)


def cosine(a: Vectors, b: Vectors) -> Vectors:
    """Cosine of the angle along the last axis; NaN where a vector is zero."""
    with np.errstate(invalid="ignore"):
        unit_a, unit_b = (v / norm(v)[..., None] for v in (a, b))
    return np.vecdot(unit_a, unit_b)
