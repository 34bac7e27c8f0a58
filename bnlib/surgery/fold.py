"""Fold batch norms into the layers next to them: the same function with fewer operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, fx, nn

from bnlib.nn import MaskedBatchNorm1d
from bnlib.surgery._algebra import (
    NotExactError,
    channel_map,
    check_layer,
    check_norm,
    fold_after,
    fold_before,
    named_running_norms,
)
from bnlib.surgery._family import others, say
from bnlib.surgery._modules import LINEAR_LAYERS, substitute
from bnlib.surgery._survey import Survey, check_tolerance, copied
from bnlib.surgery._wiring import Wiring


class Identity(nn.Identity):
    """What stands in the place of a batch norm: torch.fx traces through it.

    ``torch.nn.Identity`` would be an operation in the traced graph, between a convolution and its
    ReLU, and torch's quantization would not fuse the two.
    """

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the input; a batch norm may have been called with a mask, too."""
        return input


@dataclass
class FoldReport:
    """What became of each batch norm.

    Attributes
    ----------
    folded : dict of str to str
        Name of the batch norm: name of the layer that now does its work.
    left : dict of str to str
        Name of a batch norm, or of a relative, that stays: the reason.
    found_by : str
        ``"torch.fx"`` if the neighbours were found for every input, ``"hooks"`` if the model
        cannot be traced, so that they are known for the example inputs only.
    difference : float
        Largest difference of an output of the new model, relative to the largest value of that
        output.
    examples : int
        Number of example inputs (a mini-batch is one) on which the outputs were compared.
    ambiguous : list of str
        Names of folded batch norms that see the layer through a reshape or the like, of which an
        example with axes of length 1 does not show what it does to longer ones.
    others : dict of str to int
        Class names of the norms that are no batch norms, which `fold` does not look at, and their
        numbers.
    """

    folded: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    found_by: str = "torch.fx"
    difference: float = 0.0
    examples: int = 0
    ambiguous: list[str] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"folded {name} into {layer}" for name, layer in self.folded.items()]
        lines += [f"left {name or 'the model'}: {reason}" for name, reason in self.left.items()]
        if not lines:
            seen = say(Counter(self.others)) or "no other norm"
            return f"found no batch norm; saw {seen}"
        if self.folded:
            lines.append(
                f"largest relative difference {self.difference:.1e} on {self.examples} "
                + ("example input" if self.examples == 1 else "example inputs")
            )
        if self.found_by == "hooks":
            lines.append(
                "found by hooks: known for the example inputs only; give examples of all paths"
            )
        if self.ambiguous:
            lines.append(
                f"{', '.join(self.ambiguous)}: known for the lengths of the example only, as axes "
                "of length 1 hide what a reshape does; give an example without"
            )
        return "\n".join(lines)


class Folded(NamedTuple):
    """The new model, and what was done.

    Attributes
    ----------
    model : torch.nn.Module
        A copy with the batch norms folded; identities stand in their places, or the activations
        that were part of them.
    report : FoldReport
        What was folded, and what was left for which reason.
    """

    model: nn.Module
    report: FoldReport


def fold(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    tolerance: float | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> Folded:
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
    example_inputs : Tensor, tuple, dict, list or iterator, optional
        A tensor, a tuple of positional arguments or a dict of keyword arguments of the model, or a
        list of such: several examples. A list or tuple that the model does not take like that, but
        whose elements have as many rows as its first, is read as
        :func:`~bnlib.surgery.recalibrate` reads a mini-batch of a data loader: the first element is
        the input, the others are labels. The items of an iterator are several mini-batches. A model
        whose one argument is a list of images takes ``([image, image],)``. Without examples, a
        random input is made that fits the first layer.
    tolerance : float, optional
        Largest relative difference of the outputs that is accepted; by default the square root of
        the precision of the model's coarsest parameter type, 3.5e-4 for float32.
    forward : callable, optional
        ``forward(model, batch)`` shows the model a batch of another form, as in
        :func:`~bnlib.surgery.recalibrate`, and returns the tensors to compare: for a model that
        returns no tensor, say, ``lambda model, x: model(x).logits``. Then `example_inputs` is one
        batch, handed over as it is, or an iterator of batches.

    Returns
    -------
    Folded
        The named tuple ``(model, report)``.

    Raises
    ------
    TypeError
        If `model` is no module, or `example_inputs` or `tolerance` is of another type.
    ValueError
        If the model is in train mode, is an exported graph, has no values (meta device, lazy
        parameters), cannot be copied or fails on the example; if no example can be made; if its
        output on the example has no finite number that could be compared; or if `tolerance` is
        negative.
    RuntimeError
        If the new model's output differs from that of the original.

    Notes
    -----
    Frozen batch norms (of ``bnlib.nn``, torchvision or detectron2) and instance norms with running
    statistics are folded too. A batch norm that has a dropout or an activation for children, such
    as timm's ``BatchNormAct2d``, is folded into the layer before it, and these stay. In eval mode
    a ``DecorrelatedBatchNorm`` mixes the channels by a fixed matrix, which a layer without groups
    takes. What a module computes is compared with these formulas on random numbers first. Flatten,
    reshape, transpose and the like may stand between the two layers if each channel comes from one
    to the other: so after a linear layer on ``(n, l, c)``. That is seen from the example, and known
    for inputs with as many axes, each longer than 1; for a model of linear layers the generated one
    has two.

    The neighbours are found by ``torch.fx``, for all inputs, and by a run on the example. Of a
    model that ``torch.fx`` cannot trace only the run is known, so give a list of examples that
    takes all of its paths. New weights are computed in float64 and rounded once.

    The cost is two forward passes on each example input. An input with up to 65,536 values is run
    in float64, a larger one in float32; if ``torch.fx`` can trace the model, only the first rows of
    a large mini-batch are taken, with so many values together, and at least two rows.

    In the place of a batch norm stands an ``Identity`` that leaves no trace in ``torch.fx``, so
    that quantization fuses a convolution and its ReLU: fold first, then quantize. Names in the
    state dict stay. To unpickle the whole model, bnlib has to be installed.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import fold
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
    check_tolerance(tolerance)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    norms = named_running_norms(model)
    if norms and model.training:
        raise ValueError("the model is in train mode: call model.eval() before folding")
    if not norms and _holds_operations(model):
        raise ValueError(
            "the batch norms of an exported graph are operations, no modules: fold the model "
            "before the export"
        )
    result, report = copied(model), FoldReport()
    if not norms:
        report.others = dict(others(model))
        return Folded(result, report)
    for name, norm in norms.items():
        try:
            if norm is model:
                raise NotExactError("it is the whole model: no layer stands next to it")
            check_norm(norm)
        except NotExactError as reason:
            report.left[name] = str(reason)
    if len(report.left) == len(norms):
        return Folded(result, report)
    survey = Survey(model, example_inputs, forward)
    report.found_by = "torch.fx" if survey.traced else "hooks"
    report.examples = len(survey.examples)
    exchanges = {}
    for name in [name for name in norms if name not in report.left]:
        norm = result.get_submodule(name)
        try:
            report.folded[name], behind = _fold_one(result, name, survey)
        except NotExactError as reason:
            report.left[name] = str(reason)
        else:
            exchanges[norm] = behind
    report.ambiguous = [name for name in report.folded if name in survey.ambiguous]
    result = substitute(result, exchanges)
    report.difference = survey.check(result, tolerance)
    return Folded(result, report)


def _holds_operations(model: nn.Module) -> bool:
    graphs = (module.graph for module in model.modules() if isinstance(module, fx.GraphModule))
    nodes = (node for graph in graphs for node in graph.nodes)
    return any(node.op == "call_function" and "batch_norm" in str(node.target) for node in nodes)


def _fold_one(model: nn.Module, name: str, survey: Survey) -> tuple[str, nn.Module]:
    """Fold one norm of `model`, in place; return the layer that took it, and what stays of it."""
    norm = model.get_submodule(name)
    found = channel_map(norm, survey.dims(name))
    if survey.has_further_inputs(name) and not isinstance(norm, MaskedBatchNorm1d):
        raise NotExactError("it is called with more than its input")
    layers = [n for n, module in model.named_modules() if isinstance(module, LINEAR_LAYERS)]
    reasons = []
    for side in ("before", "after"):
        try:
            layer_name = survey.agree(_neighbour(side, name, layers))
            layer = model.get_submodule(layer_name)
            check_layer(layer, layer_name)
            survey.check_axes(name, layer_name, layer, side)
            if side == "before":
                fold_after(layer, found.scale, found.shift, layer_name)
            elif found.behind:
                raise NotExactError(f"{_names(found.behind)} acts between it and {layer_name}")
            else:
                fold_before(layer, found.scale, found.shift, layer_name)
        except NotExactError as reason:
            reasons.append(str(reason))
        else:
            return layer_name, _remaining(found.behind)
    raise NotExactError("; ".join(dict.fromkeys(reasons)))


def _remaining(behind: list[nn.Module]) -> nn.Module:
    if not behind:
        return Identity().eval()
    return behind[0] if len(behind) == 1 else nn.Sequential(*behind).eval()


def _names(modules: list[nn.Module]) -> str:
    return " and ".join(type(module).__name__ for module in modules)


def _neighbour(side: str, name: str, layers: list[str]) -> Callable[[Wiring], str]:
    if side == "before":
        return lambda wiring: wiring.layer_before(name, layers)
    return lambda wiring: wiring.layer_after(name, layers)
