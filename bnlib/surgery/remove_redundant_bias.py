"""Remove the biases that a batch norm right after them makes idle."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from bnlib.surgery._algebra import NotExactError, check_layer
from bnlib.surgery._collect import store
from bnlib.surgery._family import takes_off_the_mean
from bnlib.surgery._modules import LINEAR_LAYERS, has_statistics, hooks_of, named_batch_norms
from bnlib.surgery._survey import Survey, check_tolerance, copied


def remove_redundant_bias(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    tolerance: float | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> tuple[nn.Module, dict[str, str]]:
    """Return a copy of a model without the biases right before its batch norms.

    The batch norm subtracts the mean, and with it the bias (:cite:t:`ioffe2015batch`, Section 3.2).
    BN(z + b) with running mean mu is BN(z) with running mean mu - b, so the bias moves into the
    running mean: exact in eval mode, in train mode, and for the running statistics to come.

    Parameters
    ----------
    model : torch.nn.Module
        In any mode. It is not modified.
    example_inputs : Tensor, tuple, dict, list or iterator, optional
        As for :func:`~bnlib.surgery.fold`.
    tolerance : float, optional
        As for :func:`~bnlib.surgery.fold`.
    forward : callable, optional
        As for :func:`~bnlib.surgery.fold`.

    Returns
    -------
    model : torch.nn.Module
        The copy, its modes as in `model`.
    removed : dict of str to str
        Name of the layer that lost its bias: name of the batch norm that took it.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As :func:`~bnlib.surgery.fold`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import remove_redundant_bias
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> lean, removed = remove_redundant_bias(net)
    >>> removed, lean[0].bias
    ({'0': '1'}, None)
    >>> x = torch.randn(5, 3)
    >>> torch.testing.assert_close(lean.eval()(x), net.eval()(x))
    """
    check_tolerance(tolerance)
    batch_norms = named_batch_norms(model)
    result, removed = copied(model), {}
    if not batch_norms:
        return result, removed
    survey = Survey(_in_test_modes(model), example_inputs, forward)
    layers = [n for n, module in result.named_modules() if isinstance(module, LINEAR_LAYERS)]
    for name, batch_norm in batch_norms.items():
        if hooks_of(batch_norm) or not takes_off_the_mean(batch_norm):
            continue
        try:
            layer_name = survey.agree(lambda wiring, n=name: wiring.layer_before(n, layers))
            layer = result.get_submodule(layer_name)
            check_layer(layer, layer_name)
            survey.check_axes(name, layer_name, layer, "before")
        except NotExactError:
            continue
        if layer.bias is not None:
            _move_bias(layer, result.get_submodule(name))
            removed[layer_name] = name
    survey.check(_in_test_modes(result), tolerance)
    return result, removed


def _in_test_modes(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode but for its dropouts, through which no bias can be moved."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.training = True
    return model


def _move_bias(layer: nn.Module, batch_norm: nn.Module) -> None:
    if has_statistics(batch_norm):
        mean = batch_norm.running_mean.double() - layer.bias.detach().double()
        store(batch_norm, mean, batch_norm.running_var)
    layer.bias = None
