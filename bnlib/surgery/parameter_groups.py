"""Split the parameters of a model for an optimizer: no weight decay on norms and biases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from bnlib.surgery._family import NORMS


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    *,
    norms: type[nn.Module] | Iterable[type[nn.Module]] = (),
) -> list[dict[str, Any]]:
    """Return parameter groups for ``torch.optim``: weight decay for weights only.

    This is a common recipe: :cite:t:`he2019bag`, Section 3.1, decay the weights of convolutions and
    of linear layers alone. On a weight that feeds a batch norm, weight decay does not limit the
    function but sets the effective learning rate (:cite:t:`vanlaarhoven2017l2`).

    Parameters
    ----------
    model : torch.nn.Module
        Every parameter gets into exactly one group, in the order of ``model.parameters()``.
    weight_decay : float
        For everything but the parameters of norms, all biases, and whatever else has one axis or
        none, such as the scale of each channel of a layer (layer scale), the slopes of a PReLU, or
        a temperature: they scale, and no sum over inputs becomes large by them.
    norms : type or iterable of type, optional
        Further classes of norms, whose parameters have more axes.

    Returns
    -------
    list of dict
        With ``params`` and ``weight_decay``; a group without parameters is left out.

    Raises
    ------
    TypeError
        If `model` is no module, or `norms` holds anything but classes.
    ValueError
        If the weight decay is no number of at least 0, or the model has no parameters.

    Notes
    -----
    The magnitudes of ``torch.nn.utils.parametrizations.weight_norm`` have as many axes as the
    weight and decay with it, unless ``dim=None`` makes them one scalar. They are the lengths of its
    rows, so that to decay them is to decay the weight; the decay of the directions changes only
    the effective learning rate.

    The function goes by the axes of the parameters. So call it before a wrapper flattens them to
    vectors, as ``FullyShardedDataParallel`` does without ``use_orig_params=True``.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import parameter_groups
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> groups = parameter_groups(net, 0.01)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(1, 0.01), (3, 0.0)]
    >>> optimizer = torch.optim.SGD(groups, lr=0.1)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(weight_decay, int | float) or not weight_decay >= 0:
        raise ValueError(f"weight_decay must be a number, 0 or more, not {weight_decay!r}")
    kinds = NORMS + _as_tuple(norms)
    exempt = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_bias = _is_bias(f"{module_name}.{name}")
            if isinstance(module, kinds) or is_bias or parameter.dim() < 2:
                exempt.add(parameter)
    parameters = list(model.parameters())
    if not parameters:
        raise ValueError("the model has no parameters")
    groups = [
        {"params": [p for p in parameters if p not in exempt], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p in exempt], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _as_tuple(norms: object) -> tuple[type, ...]:
    kinds = tuple(norms) if isinstance(norms, Iterable) else (norms,)
    if not all(isinstance(kind, type) for kind in kinds):
        raise TypeError(f"norms must be a class of modules, or several, not {norms!r}")
    return kinds


def _is_bias(name: str) -> bool:
    """Return whether a name is that of a bias, of a recurrent or parametrized layer, too."""
    *modules, last = name.split(".")
    named = last == "bias" or last.endswith("_bias") or last.startswith(("bias_ih", "bias_hh"))
    return named or modules[-2:] == ["parametrizations", "bias"]
