"""Freeze batch norms so that `model.train()` leaves them in eval mode."""

from __future__ import annotations

import functools
from collections.abc import Collection

from torch import nn

from bnlib.surgery._modules import has_statistics, select_batch_norms


def freeze(
    model: nn.Module, layers: Collection[str] | None = None, *, parameters: bool = True
) -> list[str]:
    """Keep batch norms in eval mode, also after ``model.train()``, in place.

    A frozen batch norm is a fixed scale and shift of each channel: usual in fine-tuning with small
    mini-batches (:cite:t:`wu2021rethinking`, Section 4). Calling ``eval()`` on it is not enough,
    since the next ``model.train()`` undoes it.

    Parameters
    ----------
    model : torch.nn.Module
        Its batch norms keep their class, parameters and statistics, and the model can be copied,
        pickled and saved.
    layers : collection of str, optional
        Names of the batch norms; all by default.
    parameters : bool
        Freeze the weights and biases, too.

    Returns
    -------
    list of str
        Names of the frozen batch norms.

    Raises
    ------
    TypeError
        If `model` is no module or `layers` is a string.
    ValueError
        If there is no such batch norm, or one has no running statistics to be frozen at.

    See Also
    --------
    unfreeze : The way back.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> freeze(net)
    ['1']
    >>> net.train()[1].training
    False
    """
    targets = select_batch_norms(model, layers)
    for name, batch_norm in targets.items():
        if not has_statistics(batch_norm):
            raise ValueError(f"{name} has no running statistics that it could be frozen at")
    for batch_norm in targets.values():
        unfreeze_one(batch_norm)
        turned_off = []
        for key, parameter in batch_norm.named_parameters(recurse=False):
            if parameters and parameter.requires_grad:
                parameter.requires_grad_(False)
                turned_off.append(key)
        batch_norm.train = functools.partial(_stay_in_eval_mode, batch_norm, tuple(turned_off))
        batch_norm.train()
    return list(targets)


def unfreeze(model: nn.Module, layers: Collection[str] | None = None) -> list[str]:
    """Undo `freeze`, in place: the batch norms follow ``train()`` and ``eval()`` again.

    Parameters
    ----------
    model : torch.nn.Module
        They stay in eval mode until the next ``train()``.
    layers : collection of str, optional
        Names of batch norms; all frozen ones by default.

    Returns
    -------
    list of str
        Names of the batch norms that were frozen and now are not.

    Raises
    ------
    TypeError
        If `model` is no module or `layers` is a string.
    ValueError
        If there is no such batch norm.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> names = freeze(net)
    >>> unfreeze(net)
    ['1']
    >>> net.train()[1].training
    True
    """
    targets = select_batch_norms(model, layers)
    return [name for name, batch_norm in targets.items() if unfreeze_one(batch_norm)]


def unfreeze_one(batch_norm: nn.Module) -> bool:
    """Undo `freeze` for one batch norm; return whether it was frozen."""
    if not is_frozen(batch_norm):
        return False
    for key in batch_norm.train.args[1]:
        getattr(batch_norm, key).requires_grad_(True)
    del batch_norm.train
    return True


def is_frozen(batch_norm: nn.Module) -> bool:
    """Return whether `freeze` froze a batch norm."""
    train = vars(batch_norm).get("train")
    return isinstance(train, functools.partial) and train.func is _stay_in_eval_mode


def _stay_in_eval_mode(
    batch_norm: nn.Module, turned_off: tuple[str, ...], mode: bool = True
) -> nn.Module:
    """Stand in for ``batch_norm.train``."""
    return type(batch_norm).train(batch_norm, False)
