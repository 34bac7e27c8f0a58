"""From the batch norms of a model to synchronized ones, and back."""

import functools
import warnings

import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnlib.nn._classes import (
    is_parametrized,
    made_by,
    made_from,
    named_modules,
    parametrized,
    refuse_lazy,
    refuse_paused,
    replaces_forward,
)
from bnlib.nn.batch_norm import _BatchNorm as _OurBatchNorm
from bnlib.nn.sync_batch_norm import SyncBatchNorm, _AnyBatchNorm


def convert_sync_batchnorm(
    module: nn.Module, process_group: dist.ProcessGroup | None = None
) -> nn.Module:
    """Make every batch norm of a model a `SyncBatchNorm`, in place.

    Only the class of a layer changes: it becomes one that is both what it was and a
    `SyncBatchNorm`. So parameters, buffers, hooks, modes, further attributes and the layer
    itself stay the same objects; an optimizer made before goes on working, and methods of a
    subclass are still there. ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` makes new layers
    and loses hooks and subclasses.

    Parameters
    ----------
    module : Module
        A model, or a batch norm, of ``torch.nn``, of `bnlib.nn`, or a subclass.
    process_group : ProcessGroup, optional
        The processes that normalize together. None: all of them.

    Returns
    -------
    Module
        `module` itself.

    Raises
    ------
    TypeError
        If `module` is no module.
    ValueError
        If a lazy batch norm has seen no mini-batch yet, or statistics are paused by
        `bnlib.surgery.pause_statistics`; nothing is converted then.

    Warns
    -----
    UserWarning
        If a subclass has a ``forward`` that does not call that of a plain batch norm, as the
        relatives of batch norm in `bnlib.nn` have. Such a layer stays as it is.

    Examples
    --------
    >>> from torch import nn
    >>> from bnlib.nn import convert_sync_batchnorm, revert_sync_batchnorm
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    >>> weight = model[1].weight
    >>> convert_sync_batchnorm(model)[1]
    SyncBatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    >>> model[1].weight is weight
    True
    >>> type(revert_sync_batchnorm(model)[1])
    <class 'torch.nn.modules.batchnorm.BatchNorm2d'>
    """
    layers = {name: m for name, m in named_modules(module) if isinstance(m, _BatchNorm)}
    refuse_lazy(layers, "batch norm")
    refuse_paused(layers)
    for name, layer in layers.items():
        cls = _synchronized(type(layer))
        if cls is None:
            warnings.warn(
                f"{name or 'module'} ({type(layer).__name__}) has a forward that does not call "
                "that of a plain batch norm; it stays as it is",
                stacklevel=2,
            )
        else:
            layer.__class__ = cls
            layer.process_group = process_group or getattr(layer, "process_group", None)
    return module


def revert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Make every synchronized batch norm of a model a plain one, in place.

    Parameters
    ----------
    module : Module
        A model, or a `SyncBatchNorm`, or one of ``torch.nn``.

    Returns
    -------
    Module
        `module` itself. A layer that was converted has its former class again. One that was made
        as `SyncBatchNorm` becomes a batch norm of input with any number of axes from two.
        Parametrizations (``torch.nn.utils.parametrize``) stay.

    Raises
    ------
    TypeError
        If `module` is no module.
    ValueError
        If statistics are paused by `bnlib.surgery.pause_statistics`; nothing is changed then.

    Examples
    --------
    >>> from bnlib.nn import SyncBatchNorm, revert_sync_batchnorm
    >>> layer = revert_sync_batchnorm(SyncBatchNorm(3))
    >>> isinstance(layer, SyncBatchNorm)
    False
    """
    layers = {name: m for name, m in named_modules(module) if isinstance(m, _BatchNorm)}
    refuse_paused(layers)
    for layer in layers.values():
        cls = _reverted(type(layer))
        if cls is not None:
            layer.__class__ = cls
            vars(layer).pop("process_group", None)
    return module


def _synchronized(cls: type) -> type | None:
    """Return the synchronized class for one of batch norms; None if it could not be right."""
    if issubclass(cls, SyncBatchNorm):
        return cls
    if is_parametrized(cls):
        base = _synchronized(cls.__base__)
        return base and parametrized(cls, base)
    if cls is nn.SyncBatchNorm:
        return SyncBatchNorm
    if issubclass(cls, nn.SyncBatchNorm) or replaces_forward(cls, (_OurBatchNorm,)):
        return None
    return _synced(cls)


def _reverted(cls: type) -> type | None:
    """Return the class that is not synchronized for one that is; None for others."""
    if is_parametrized(cls):
        base = _reverted(cls.__base__)
        return base and parametrized(cls, base)
    if cls in (SyncBatchNorm, nn.SyncBatchNorm):
        return _AnyBatchNorm
    return made_from(cls, _synced)


@functools.cache
def _synced(cls: type) -> type:
    """Return the class that is `cls` first and then `SyncBatchNorm`.

    A ``super().forward`` in `cls` finds that of `SyncBatchNorm`, which stands before torch's in
    the order of the classes; the check of the axes is that of `cls`.
    """
    return type(
        f"Sync{cls.__name__}",
        (cls, SyncBatchNorm),
        {
            "__doc__": f"`{cls.__name__}`, synchronized.",
            "__module__": __name__,
            **made_by(_synced, cls),
            "_check_input_dim": cls._check_input_dim,
        },
    )
