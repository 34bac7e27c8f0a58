"""Run a model on examples, to learn its wiring and to compare a changed model with it."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from bnlib.surgery._algebra import NotExactError, feature_axis
from bnlib.surgery._batch import check_forward, on_device
from bnlib.surgery._examples import Call, cut, generated, is_small, quietly, readings
from bnlib.surgery._wiring import NotReachedError, Recorder, Shown, Wiring, tensors_of, trace


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model; refuse one without values, or that cannot be copied."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise ValueError("the model has lazy parameters: run it once on an input first")
        if tensor.is_meta:
            raise ValueError(f"{name} is on the meta device, without values: load the model first")
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                raise ValueError(
                    f"{name}.{key} was computed from other parameters, as by the old "
                    "torch.nn.utils.weight_norm or by pruning, and cannot be copied: call "
                    "remove_weight_norm, remove_spectral_norm or prune.remove first"
                )
    return copy.deepcopy(model)


class Survey:
    """What is known of a model: its wiring, and its outputs on the examples.

    The runs use copies, each module in its mode. Small examples are run in float64, so that
    rounding does not hide a difference, large ones in float32. If torch.fx can trace the model,
    no values decide on its path, and a large mini-batch is cut to its first examples. The global
    random state is left as it was.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
    ) -> None:
        check_forward(forward)
        self._show = _call if forward is None else forward
        self.ambiguous: set[str] = set()
        if example_inputs is not None:
            found = readings(model, example_inputs, forward)
        elif forward is None:
            found = [generated(model)]
        else:
            raise ValueError("forward needs example_inputs, the batch that it is to show")
        errors = []
        for calls in found:
            try:
                self._learn(model, calls if forward else on_device(model, calls))
                break
            except Exception as error:  # whatever the model raises
                errors.append(error)
        else:
            raise ValueError(
                f"the model fails on the example inputs ({errors[0]}); give "
                + (
                    "what forward(model, batch) takes for its batch"
                    if forward
                    else "a tensor, a tuple of positional arguments or a dict of keyword "
                    "arguments, a list of such, or forward=lambda model, batch: ..."
                )
            ) from errors[0]
        self._check_outputs()

    def _learn(self, model: nn.Module, calls: list[Call]) -> None:
        """Trace and run; the first way of running that the model accepts."""
        self._cast = None
        traces = [trace(*self._prepare(model, call)) for call in calls]
        known = [wiring for wiring in traces if wiring is not None]
        self.traced = len(known) == len(traces)
        ways = [(calls, _cast_for(model, calls)), (calls, None)]
        if self.traced and not is_small(calls):
            ways.insert(0, (some := cut(calls), _cast_for(model, some)))
        for self.examples, self._cast in ways:
            try:
                self.wirings = [*known, *self._run_all(model)]
                return
            except Exception as error:  # a model that insists on its own type or size
                last_error = error
        raise last_error

    def _run_all(self, model: nn.Module) -> list[Wiring]:
        runs, self._outputs = [], []
        for call in self.examples:
            shown, args, kwargs = self._prepare(model, call)
            recorder = Recorder(shown)
            self._outputs.append(quietly(recorder.run, args, kwargs))
            runs.append(recorder.wiring)
        return runs

    def _prepare(self, model: nn.Module, call: Call) -> tuple[Shown, tuple, dict]:
        """Return a copy of the model and of the example, of the same type."""
        scratch = copy.deepcopy(model)
        if self._cast is not None:
            scratch._apply(lambda t: t.to(self._cast) if t.is_floating_point() else t)
        args, kwargs = tree_map(lambda x: _fresh(x, self._cast), call)
        return Shown(scratch, self._show), args, kwargs

    def _check_outputs(self) -> None:
        """Refuse examples of which nothing could be compared."""
        for number, output in enumerate(self._outputs):
            example = f"of example {number} " if len(self._outputs) > 1 else ""
            tensors = tensors_of(output)
            if not tensors:
                raise ValueError(
                    f"the output {example}holds no tensor that could be compared, but is "
                    f"{type(output).__name__}: say what of the output to compare, by "
                    "forward=lambda model, batch: ..."
                )
            if not any(tensor.numel() for tensor in tensors):
                raise ValueError(f"the output {example}is empty: give an example with values")
            if not any(tensor.isfinite().any() for tensor in tensors):
                raise ValueError(
                    f"the output {example}has no finite value that could be compared: give an "
                    "example on which the model computes numbers"
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

    def dims(self, norm: str) -> int:
        """Return the number of axes that the norm's input has."""
        found = {len(w.arrivals[norm].end) for w in self.wirings if norm in w.arrivals}
        if not found:
            raise NotReachedError("it is not reached by the example inputs")
        if len(found) > 1:
            raise NotExactError(f"its input has different numbers of axes: {sorted(found)}")
        return found.pop()

    def has_further_inputs(self, norm: str) -> bool:
        """Return whether the norm is called with more than its input, such as a mask."""
        return any(norm in wiring.extra for wiring in self.wirings)

    def check_axes(self, norm: str, name: str, layer: nn.Module, side: str) -> None:
        """Refuse a layer whose channels do not come to, or from, axis 1 of the norm."""
        for wiring in self.wirings:
            arrival = wiring.arrivals.get(norm if side == "before" else name)
            if arrival is None:  # a trace, or a run that does not come there
                continue
            dims, axis = len(arrival.end), feature_axis(layer, len(arrival.start))
            axes = (axis, 1)
            if side == "after":
                dims, axis = len(arrival.start), feature_axis(layer, len(arrival.end))
                axes = (1, axis)
            if not arrival.carries(*axes):
                raise NotExactError(
                    f"its channels are axis 1 of {dims} axes, which is another axis to {name}"
                )
            if arrival.is_ambiguous:
                self.ambiguous.add(norm)

    def difference(self, model: nn.Module) -> float:
        """Return the largest difference of any output, relative to the output's largest value."""
        worst = 0.0
        for call, output in zip(self.examples, self._outputs, strict=True):
            results, expected = tensors_of(quietly(*self._prepare(model, call))), tensors_of(output)
            if [r.shape for r in results] != [e.shape for e in expected]:
                return math.inf
            worst = max([worst, *map(_relative_difference, results, expected)])
        return worst

    def check(self, model: nn.Module, tolerance: float | None) -> float:
        """Return the difference of the outputs; raise if it is larger than the tolerance."""
        if tolerance is None:
            types = {p.dtype for p in model.parameters() if p.is_floating_point()}
            tolerance = max((torch.finfo(t).eps for t in types), default=0.0) ** 0.5
        try:
            difference = self.difference(model)
        except Exception as error:  # whatever the model raises
            raise RuntimeError(
                f"the new model fails on the example inputs ({error}): something reads what a "
                "module had that is gone. The model that was given is as it was."
            ) from error
        if not difference <= tolerance:
            raise RuntimeError(
                f"the output changed by {difference:.1e} of its largest value, more than the "
                f"tolerance {tolerance:.1e}: something reads or changes a tensor between the "
                "layers in a way that neither torch.fx nor the run shows. The model that was "
                "given is as it was."
            )
        return difference


def check_tolerance(tolerance: float | None) -> None:
    """Refuse a tolerance that is no number, or negative."""
    if tolerance is None:
        return
    if isinstance(tolerance, bool) or not isinstance(tolerance, numbers.Real):
        raise TypeError(f"tolerance must be a number, not {tolerance!r}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, not {tolerance}")


def _call(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return model(*args, **kwargs)


def _cast_for(model: nn.Module, calls: list[Call]) -> torch.dtype | None:
    if is_small(calls):
        return torch.float64
    types = {p.dtype for p in model.parameters()}
    return None if torch.float64 in types else torch.float32


def _fresh(value: Any, dtype: torch.dtype | None) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(dtype if value.is_floating_point() else None, copy=True)


def _relative_difference(result: Tensor, expected: Tensor) -> float:
    result, expected = (_comparable(tensor) for tensor in (result, expected))
    finite = expected.isfinite()
    if not torch.allclose(result[~finite], expected[~finite], equal_nan=True):
        return math.inf
    if not finite.any():
        return 0.0
    scale = expected[finite].abs().max().item()
    gap = (result - expected)[finite].abs().max().item()
    return math.inf if math.isnan(gap) else gap / scale if scale else gap


def _comparable(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.cdouble()) if tensor.is_complex() else tensor.double()
