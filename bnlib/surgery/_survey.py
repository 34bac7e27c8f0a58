"""Run a model on examples, to learn its wiring and to compare a changed model with it."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves, tree_map

from bnlib.surgery._algebra import NotExactError
from bnlib.surgery._modules import is_batch_norm
from bnlib.surgery._wiring import NotReachedError, Recorder, Wiring, trace

LENGTHS = (8, 32, 28, 16, 64, 128, 224)
"""Lengths of the spatial axes that are tried for a generated input."""
BATCH_SIZE = 2


class Survey:
    """What is known of a model: its wiring, and its outputs on the examples.

    The runs use copies, each module in its mode, in float64 where the model allows it, so that
    rounding does not hide a difference. The global random state is left as it was.
    """

    def __init__(self, model: nn.Module, example_inputs: Any) -> None:
        if any(nn.parameter.is_lazy(p) for p in model.parameters()):
            raise ValueError("the model has lazy parameters: run it once on an input first")
        if example_inputs is None:
            self.examples = [_generated_example(model)]
        else:
            self.examples = [_as_call(example) for example in _as_list(example_inputs)]
        try:
            self.double = True
            self._run_all(model)
        except Exception:  # a model that insists on its own type
            self.double = False
            try:
                self._run_all(model)
            except Exception as error:
                raise ValueError(
                    f"the model fails on the example inputs ({error}); give a tensor, a tuple of "
                    "positional arguments or a dict of keyword arguments, or a list of such"
                ) from error

    def _run_all(self, model: nn.Module) -> None:
        runs: list[Wiring] = []
        traces: list[Wiring | None] = []
        self.outputs: list[list[Tensor]] = []
        for example in self.examples:
            scratch, args, kwargs = self._prepare(model, example)
            recorder = Recorder(scratch)
            output = _quietly(recorder.run, args, kwargs)
            self.outputs.append([leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)])
            runs.append(recorder.wiring)
            traces.append(trace(*self._prepare(model, example)))
        if not any(self.outputs):
            raise ValueError("it returns no tensor")
        self.traced = None not in traces
        self.wirings = [*runs, *(wiring for wiring in traces if wiring is not None)]

    def _prepare(self, model: nn.Module, example: tuple[tuple, dict]) -> tuple:
        """Return a copy of the model and of the example, of the same type."""
        scratch, (args, kwargs) = copy.deepcopy(model), example
        if self.double:
            scratch.double()
            args, kwargs = tree_map(_to_double, (args, kwargs))
        return scratch, *tree_map(
            lambda x: x.clone() if isinstance(x, Tensor) else x, (args, kwargs)
        )

    def agree(self, find: Callable[[Wiring], str]) -> str:
        """Return the layer that `find` names for a batch norm, in all runs and traces alike.

        An example may reach neither of the two, but not the layer without the batch norm.
        """
        answers, missed = set(), []
        for wiring in self.wirings:
            try:
                answers.add(find(wiring))
            except NotReachedError as reason:
                missed.append((wiring, reason))
        if not answers:
            raise missed[0][1]
        if len(answers) > 1:
            raise NotExactError(f"its neighbour depends on the input: {sorted(answers)}")
        [layer] = answers
        if any(layer in wiring.inputs for wiring, _ in missed):
            raise NotExactError(f"{layer} runs without it for some inputs")
        return layer

    def dims(self, batch_norm: str) -> set[int]:
        """Return the numbers of axes that the batch norm's input had."""
        return {w.dims[batch_norm] for w in self.wirings if batch_norm in w.dims}

    def difference(self, model: nn.Module) -> float:
        """Return the largest difference of any output, relative to the output's largest value."""
        worst = 0.0
        for example, expected in zip(self.examples, self.outputs, strict=True):
            scratch, args, kwargs = self._prepare(model, example)
            output = _quietly(scratch, args, kwargs)
            results = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
            if [r.shape for r in results] != [e.shape for e in expected]:
                return math.inf
            worst = max([worst, *map(_relative_difference, results, expected)])
        return worst

    def check(self, model: nn.Module, tolerance: float | None = None) -> float:
        """Return the difference of the outputs; raise if it is larger than the tolerance."""
        if tolerance is None:
            types = {p.dtype for p in model.parameters() if p.is_floating_point()}
            tolerance = max((torch.finfo(t).eps for t in types), default=0.0) ** 0.5
        difference = self.difference(model)
        if not difference <= tolerance:
            raise RuntimeError(
                f"the output changed by {difference:.1e} of its largest value, more than the "
                f"tolerance {tolerance:.1e}: something reads or changes a tensor between the "
                "layers in a way that neither torch.fx nor the run shows. The model that was "
                "given is as it was."
            )
        return difference


def _quietly(function: Callable, args: tuple, kwargs: dict) -> Any:
    """Call without gradients, the same random numbers each time, random state kept."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return (
            function(*args, **kwargs) if isinstance(function, nn.Module) else function(args, kwargs)
        )


def _relative_difference(result: Tensor, expected: Tensor) -> float:
    result, expected = result.double(), expected.double()
    finite = expected.isfinite()
    if not torch.equal(result[~finite].nan_to_num(), expected[~finite].nan_to_num()):
        return math.inf
    if not finite.any():
        return 0.0
    scale = expected[finite].abs().max().item()
    gap = (result - expected)[finite].abs().max().item()
    return math.inf if math.isnan(gap) else gap / scale if scale else gap


# ------------------------------------------------------------------ example inputs


def _as_list(example_inputs: Any) -> list:
    if not isinstance(example_inputs, list):
        return [example_inputs]
    if not example_inputs:
        raise ValueError("example_inputs is an empty list: give at least one example")
    return example_inputs


def _as_call(example: Any) -> tuple[tuple, dict]:
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, tuple):
        return example, {}
    if isinstance(example, dict):
        return (), example
    raise TypeError(
        "example_inputs must be a tensor, a tuple of positional arguments, a dict of keyword "
        f"arguments, or a list of such, not {type(example).__name__}"
    )


def _to_double(value: Any) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.double() if floating else value


def _generated_example(model: nn.Module) -> tuple[tuple, dict]:
    """Return a random input that fits the first layer and that the model accepts."""
    for shape in _shapes(model):
        like = next(itertools.chain(model.parameters(), model.buffers()))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        x = x.to(like.device, like.dtype)
        try:
            _quietly(copy.deepcopy(model), (x,), {})
        except Exception:  # whatever the model raises for a wrong shape
            continue
        return (x,), {}
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
            axes = layer.weight.dim() - 2
            return [(BATCH_SIZE, layer.in_channels, *[length] * axes) for length in LENGTHS]
        if is_batch_norm(layer):
            return [
                (BATCH_SIZE, layer.num_features, *[length] * axes)
                for axes in range(4)
                for length in (LENGTHS if axes else LENGTHS[:1])
            ]
        if next(layer.parameters(recurse=False), None) is not None:
            break
    return []
