"""Freeze batch norms so that `model.train()` leaves them in eval mode."""

from __future__ import annotations

import functools
from collections.abc import Collection

from torch import nn

from bnlib.surgery._family import check_statistics
from bnlib.surgery._modules import WITH_STATISTICS, has_statistics, select_batch_norms


def freeze(
    model: nn.Module, layers: Collection[str] | None = None, *, parameters: bool = True
) -> list[str]:
    """Keep batch norms in eval mode, also after ``model.train()``, in place.

    A frozen batch norm is a fixed scale and shift of each channel, as is usual in fine-tuning with
    small mini-batches (:cite:t:`wu2021rethinking`, Section 4). Calling ``eval()`` on it is not
    enough, since the next ``model.train()`` undoes it.

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
        If there is no such batch norm, one has no running statistics to be frozen at, has them
        paused (:func:`~bnlib.surgery.pause_statistics`), or is of a class that does more to its
        input than a batch norm does.

    See Also
    --------
    unfreeze : The way back.
    bnlib.nn.FrozenBatchNorm2d : A layer without parameters, which nothing thaws;
        ``replace(model, to(FrozenBatchNorm2d))`` puts it in place.

    Notes
    -----
    The freeze survives copies, pickles, ``torch.save`` and `bnlib.nn.convert_sync_batchnorm`.
    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` and ``torch.jit.script`` make new layers and
    lose it without a word, and ``model.requires_grad_(True)`` lets the parameters learn again,
    though not the statistics.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import freeze
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> freeze(net)
    ['1']
    >>> net.train()[1].training
    False
    """
    targets = select_batch_norms(model, layers, kinds=WITH_STATISTICS)
    for name, batch_norm in targets.items():
        if not has_statistics(batch_norm):
            raise ValueError(f"{name} has no running statistics that it could be frozen at")
        check_statistics(batch_norm, name)
    for batch_norm in targets.values():
        unfreeze_one(batch_norm)
        turned_off = []
        for key, parameter in batch_norm.named_parameters():
            own = "." not in key or key.startswith("parametrizations.")
            if parameters and own and parameter.requires_grad:
                parameter.requires_grad_(False)
                turned_off.append(key)
        _freeze_one(batch_norm, tuple(turned_off))
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
    >>> from bnlib.surgery import freeze, unfreeze
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> names = freeze(net)
    >>> unfreeze(net)
    ['1']
    >>> net.train()[1].training
    True
    """
    targets = select_batch_norms(model, layers, kinds=WITH_STATISTICS)
    return [name for name, batch_norm in targets.items() if unfreeze_one(batch_norm)]


def unfreeze_one(batch_norm: nn.Module) -> bool:
    """Undo `freeze` for one batch norm; return whether it was frozen."""
    if not is_frozen(batch_norm):
        return False
    for key in batch_norm.train.args[1]:
        parameter = dict(batch_norm.named_parameters()).get(key)
        if parameter is not None:
            parameter.requires_grad_(True)
    del batch_norm.train
    return True


def freeze_as(batch_norm: nn.Module, frozen: nn.Module) -> None:
    """Freeze a batch norm that takes the place of a frozen one, whose parameters it has."""
    _freeze_one(batch_norm, frozen.train.args[1])


def _freeze_one(batch_norm: nn.Module, turned_off: tuple[str, ...]) -> None:
    batch_norm.train = functools.partial(_stay_in_eval_mode, batch_norm, turned_off)
    batch_norm.training = False


def is_frozen(batch_norm: nn.Module) -> bool:
    """Return whether `freeze` froze a batch norm."""
    train = vars(batch_norm).get("train")
    return isinstance(train, functools.partial) and train.func is _stay_in_eval_mode


def _stay_in_eval_mode(
    batch_norm: nn.Module, turned_off: tuple[str, ...], mode: bool = True
) -> nn.Module:
    """Stand in for ``batch_norm.train``: a dropout within, as timm has it, follows the mode."""
    type(batch_norm).train(batch_norm, mode)
    batch_norm.training = False
    return batch_norm
