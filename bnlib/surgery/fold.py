"""Fold batch norms into the layers next to them: the same function with fewer operations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from bnlib.surgery._algebra import (
    NotExactError,
    check_axes,
    check_layer,
    fold_after,
    fold_before,
    scale_and_shift,
)
from bnlib.surgery._modules import LINEAR_LAYERS, named_batch_norms, substitute
from bnlib.surgery._survey import Survey
from bnlib.surgery._wiring import Wiring


@dataclass
class FoldReport:
    """What became of each batch norm.

    Attributes
    ----------
    folded : dict of str to str
        Name of the batch norm: name of the layer that now does its work.
    left : dict of str to str
        Name of a batch norm that stays: the reason.
    found_by : str
        ``"torch.fx"`` if the neighbours were found for every input, ``"hooks"`` if the model
        cannot be traced, so that they are known for the example inputs only.
    difference : float
        Largest difference of an output of the new model, relative to the largest value of that
        output, in float64 where the model allows it.
    """

    folded: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    found_by: str = "torch.fx"
    difference: float = 0.0

    def __str__(self) -> str:
        lines = [f"folded {name} into {layer}" for name, layer in self.folded.items()]
        lines += [f"left {name}: {reason}" for name, reason in self.left.items()]
        return "\n".join([*lines, f"largest relative difference {self.difference:.1e}"])


class Folded(NamedTuple):
    """The new model, and what was done.

    Attributes
    ----------
    model : torch.nn.Module
        A copy with the batch norms folded; identities stand in their places.
    report : FoldReport
        What was folded, and what was left for which reason.
    """

    model: nn.Module
    report: FoldReport


def fold(model: nn.Module, example_inputs: Any = None, *, tolerance: float | None = None) -> Folded:
    """Fold the batch norms of a model in eval mode into the layers next to them.

    In eval mode a batch norm is ``scale * x + shift`` for each channel, :cite:t:`ioffe2015batch`,
    Algorithm 2, step 11. A convolution, a transposed convolution (with groups, too) or a linear
    layer right before it takes both into its weight and bias. A layer right after it does so as
    well, unless it pads the shifted input with zeros. A batch norm is left alone, with the reason
    in the report, where folding would change the output: if the tensor between the two is used
    elsewhere, if one of them is called twice, or if the batch norm depends on the mini-batch.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode. It is not modified.
    example_inputs : Tensor, tuple, dict or list, optional
        A tensor, a tuple of positional arguments or a dict of keyword arguments of the model, or a
        list of such. Without it a random input is made that fits the first layer.
    tolerance : float, optional
        Largest relative difference of the outputs that is accepted; by default the square root of
        the precision of the model's coarsest parameter type, 3.5e-4 for float32.

    Returns
    -------
    Folded
        The named tuple ``(model, report)``.

    Raises
    ------
    TypeError
        If `model` is no module, or `example_inputs` is of another type.
    ValueError
        If the model is in train mode, fails on the example, or no example can be made.
    RuntimeError
        If the new model's output differs from that of the original.

    Notes
    -----
    The neighbours are found by ``torch.fx``, for all inputs, and by a run on the example. A model
    that ``torch.fx`` cannot trace is known by the run alone: give a list of examples that takes
    all of its paths. New weights are computed in float64 and rounded once.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU()
    ... ).eval()
    >>> folded, report = fold(net)
    >>> report.folded
    {'1': '0'}
    >>> folded
    Sequential(
      (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
      (1): Identity()
      (2): ReLU()
    )
    >>> x = torch.randn(2, 3, 8, 8)
    >>> torch.testing.assert_close(folded(x), net(x))
    """
    batch_norms = named_batch_norms(model)
    if model.training:
        raise ValueError("the model is in train mode: call model.eval() before folding")
    result, report = copy.deepcopy(model), FoldReport()
    if not batch_norms:
        return Folded(result, report)
    survey = Survey(model, example_inputs)
    report.found_by = "torch.fx" if survey.traced else "hooks"
    exchanges = {}
    for name in batch_norms:
        batch_norm = result.get_submodule(name)
        try:
            report.folded[name] = _fold_one(result, name, survey)
        except NotExactError as reason:
            report.left[name] = str(reason)
        else:
            exchanges[batch_norm] = nn.Identity().eval()
    result = substitute(result, exchanges)
    report.difference = survey.check(result, tolerance)
    return Folded(result, report)


def _fold_one(model: nn.Module, name: str, survey: Survey) -> str:
    """Fold one batch norm of `model`, in place; return the layer that took it."""
    dims = survey.dims(name)
    if len(dims) != 1:
        raise NotExactError(
            f"its input has different numbers of axes: {sorted(dims)}"
            if dims
            else "it is not reached by the example inputs"
        )
    scale, shift = scale_and_shift(model.get_submodule(name), max(dims))
    layers = [n for n, module in model.named_modules() if isinstance(module, LINEAR_LAYERS)]
    reasons = []
    for side in ("before", "after"):
        try:
            layer_name = survey.agree(_neighbour(side, name, layers))
            layer = model.get_submodule(layer_name)
            check_layer(layer, layer_name)
            check_axes(layer, layer_name, max(dims))
            if side == "before":
                fold_after(layer, scale, shift)
            else:
                fold_before(layer, scale, shift, layer_name)
            return layer_name
        except NotExactError as reason:
            reasons.append(str(reason))
    raise NotExactError("; ".join(dict.fromkeys(reasons)))


def _neighbour(side: str, name: str, layers: list[str]) -> Callable[[Wiring], str]:
    if side == "before":
        return lambda wiring: wiring.layer_before(name, layers)
    return lambda wiring: wiring.layer_after(name, layers)
