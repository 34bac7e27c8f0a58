"""The examples on which a model is run: read, cut to a bounded size, or generated."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves, tree_map

from bnlib.surgery._algebra import is_running_norm
from bnlib.surgery._batch import read_batch

Call = tuple[tuple, dict]

LENGTHS = (96, 64, 32, 28, 16, 8, 128, 224)
"""Lengths of the spatial axes that are tried for a generated input.

With 96, and a stride of 32 in all, the last maps are 3 x 3: a 3 x 3 kernel has a place at which
all of its taps see the image, and places where some see the padding.
"""
BATCH_SIZE = 2
MOST_VALUES = 2**16
"""Size of an input up to which a model is run in float64; two images of 3 x 96 x 96 are below."""


def readings(
    model: nn.Module, example_inputs: Any, forward: Callable[[nn.Module, Any], Any] | None
) -> list[list[Call]]:
    """Return how the examples can be read, each a list of calls; the first that runs is meant."""
    several = isinstance(example_inputs, Iterator)
    if several or forward is not None:
        batches = list(example_inputs) if several else [example_inputs]
        if not batches:
            raise ValueError("example_inputs is an empty iterator: give at least one example")
        if forward is not None:
            return [[((batch,), {}) for batch in batches]]
        return [[read_batch(batch) for batch in batches]]
    if isinstance(example_inputs, list):
        if not example_inputs:
            raise ValueError("example_inputs is an empty list: give at least one example")
        batch = _as_batch(example_inputs)
        if batch and not all(isinstance(x, Tensor | tuple | Mapping) for x in example_inputs):
            return batch
        return [[_as_call(example) for example in example_inputs], *batch]
    if isinstance(example_inputs, tuple) and not _takes(model, example_inputs):
        return [[(example_inputs, {})], *_as_batch(example_inputs)]
    return [[_as_call(example_inputs)]]


def _takes(model: nn.Module, args: tuple) -> bool:
    try:
        inspect.signature(model.forward).bind(*args)
    except TypeError:
        return False
    return True


def _as_batch(example: list | tuple) -> list[list[Call]]:
    """Return the reading as inputs and labels, if there is a label for each input."""
    first, *others = example
    labelled = isinstance(first, Tensor) and first.dim() and _has_rows(others, len(first))
    return [[read_batch(example)]] if labelled else []


def _has_rows(tree: Any, rows: int) -> bool:
    if isinstance(tree, Tensor):
        return tree.dim() > 0 and len(tree) == rows
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if not isinstance(tree, list | tuple):
        return False
    return all(_has_rows(value, rows) for value in tree) or len(tree) == rows


def _as_call(example: Any) -> Call:
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, tuple):
        return example, {}
    if isinstance(example, Mapping):
        return (), dict(example)
    raise TypeError(
        "example_inputs must be a tensor, a tuple of positional arguments, a dict of keyword "
        "arguments, a list of such, or a mini-batch [inputs, labels] of a data loader, not "
        f"{type(example).__name__}"
    )


def cut(calls: list[Call]) -> list[Call]:
    """Leave the first rows of each mini-batch, two or as many as make `MOST_VALUES` values."""
    return [_cut(call) for call in calls]


def _cut(call: Call) -> Call:
    tensors = [x for x in tree_leaves(call) if isinstance(x, Tensor) and x.dim()]
    rows = {len(x) for x in tensors}
    if len(rows) != 1 or not (m := rows.pop()):
        return call
    values = sum(x.numel() for x in tensors) // m
    some = max(2, MOST_VALUES // max(values, 1))
    return tree_map(lambda x: x[:some] if isinstance(x, Tensor) and x.dim() else x, call)


def is_small(calls: list[Call]) -> bool:
    """Return whether no example has more than `MOST_VALUES` values."""
    return all(_size(call) <= MOST_VALUES for call in calls)


def _size(call: Call) -> int:
    return sum(x.numel() for x in tree_leaves(call) if isinstance(x, Tensor))


def generated(model: nn.Module) -> list[Call]:
    """Return a random input that fits the first layer and that the model accepts."""
    for shape in _shapes(model):
        like = next(itertools.chain(model.parameters(), model.buffers()))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        x = x.to(like.device, like.dtype)
        try:
            quietly(copy.deepcopy(model), x)
        except Exception:  # whatever the model raises for a wrong shape
            continue
        return [((x,), {})]
    raise ValueError(
        "found no input that the model accepts: give example_inputs, a tensor or a tuple of the "
        "model's arguments"
    )


def _shapes(model: nn.Module) -> list[tuple[int, ...]]:
    """Return shapes of an input for the layer that is defined first."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            return [(BATCH_SIZE, layer.in_features)]
        if isinstance(layer, _ConvNd):
            return _images(layer.in_channels, layer.weight.dim() - 2)
        if is_running_norm(layer) and getattr(layer, "running_mean", None) is not None:
            channels = len(layer.running_mean)
            return [shape for axes in range(4) for shape in _images(channels, axes)]
        if next(layer.parameters(recurse=False), None) is not None:
            break
    return []


def _images(channels: int, axes: int) -> list[tuple[int, ...]]:
    """Return shapes, those with more than `MOST_VALUES` values last."""
    lengths = LENGTHS if axes else (0,)
    shapes = [(BATCH_SIZE, channels, *[length] * axes) for length in lengths]
    return sorted(shapes, key=lambda shape: math.prod(shape) > MOST_VALUES)


def quietly(function: Callable, *args: Any) -> Any:
    """Call without gradients, the same random numbers each time, random state kept."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return function(*args)
