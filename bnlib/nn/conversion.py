"""From the layers of `bnlib.nn` to those of ``torch.nn``, and back, in place."""

import functools
import warnings
from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

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
from bnlib.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from bnlib.nn.group_norm import GroupNorm
from bnlib.nn.instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from bnlib.nn.layer_norm import LayerNorm
from bnlib.nn.rms_norm import RMSNorm
from bnlib.nn.sync_batch_norm import SyncBatchNorm
from bnlib.nn.sync_conversion import _synced

OURS: dict[type, type] = {
    getattr(nn, cls.__name__): cls
    for cls in (
        BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm,
        InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, LayerNorm, GroupNorm, RMSNorm,
    )
}  # fmt: skip
TORCHS: dict[type, type] = {ours: torchs for torchs, ours in OURS.items()}
PACKAGE = "bnlib.nn."
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def to_torch(module: nn.Module) -> nn.Module:
    """Make every layer of a model that ``torch.nn`` has too one of ``torch.nn``, in place.

    Call it before a tool that asks for the exact class and passes over a subclass without a word,
    as the fusers and the quantization of torch do.

    Only the class of a layer changes. So parameters, buffers, hooks, modes, further attributes
    and the layer itself stay the same objects, and an optimizer made before goes on working.

    Parameters
    ----------
    module : Module
        A model or a layer. It may be wrapped, traced to a ``GraphModule``, or frozen by
        `bnlib.surgery.freeze`.

    Returns
    -------
    Module
        `module` itself. ``type(layer)`` of a drop-in is now exactly that of ``torch.nn``, and
        a subclass goes on in torch's forward where it calls ``super().forward``.

    Raises
    ------
    TypeError
        If `module` is no module.
    ValueError
        If statistics are paused by `bnlib.surgery.pause_statistics`; nothing is exchanged then.

    Warns
    -----
    UserWarning
        With the names of layers that stay as they are: those that ``torch.nn`` does not have (ghost
        batches, renormalization, ...), even where eval mode would be the same function, since train
        mode would not; a subclass whose ``forward`` does not call that of `bnlib.nn`; a subclass
        that `convert_sync_batchnorm` has synchronized.

    See Also
    --------
    from_torch : The way back.

    Notes
    -----
    A layer of ``torch.nn`` does not look at `refuse_nonfinite`, but keeps the attribute, so that
    `from_torch` brings its effect back. A batch norm that `convert_sync_batchnorm` has
    synchronized becomes a ``torch.nn.SyncBatchNorm``, which has forgotten its number of axes and
    trains in several processes on a GPU only.

    With torch 2.13, these work on a model after the exchange as on one of ``torch.nn``, and leave
    the batch norms of `bnlib.nn` in place without it: ``torch.fx.experimental.optimization.fuse``,
    ``prepare_fx`` and ``prepare_qat_fx`` of ``torch.ao.quantization``. Its ``fuse_modules`` and
    ``fuse_modules_qat`` raise an error without it. ``torch.export`` in train mode, for training
    with quantization, has one operation that can be fused only after it. ``torch.fx`` traces a
    batch norm or instance norm that has forward pre-hooks only after it. ``torch.export`` in
    eval mode, ``torch.nn.utils.fusion`` and ``torch.jit`` take both.

    Examples
    --------
    >>> from torch import nn
    >>> from bnlib.nn import BatchNorm2d, to_torch
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNorm2d(8))
    >>> weight = model[1].weight
    >>> type(to_torch(model)[1])
    <class 'torch.nn.modules.batchnorm.BatchNorm2d'>
    >>> model[1].weight is weight
    True
    """
    layers = {name: m for name, m in named_modules(module) if _is_ours(type(m))}
    _exchange(layers, TORCHS, _torch_class)
    return module


def from_torch(module: nn.Module) -> nn.Module:
    """Make every norm of a model that `bnlib.nn` has too one of `bnlib.nn`, in place.

    Only the class of a layer changes, as in `to_torch`, whose way back it is too.

    Parameters
    ----------
    module : Module
        A model or a layer, of ``torch.nn`` or of a library that builds on it.

    Returns
    -------
    Module
        `module` itself. The new class of a layer derives from its former one
        (``SyncBatchNorm`` excepted), and a subclass goes on in the forward of `bnlib.nn` where
        it calls ``super().forward``.

    Raises
    ------
    TypeError
        If `module` is no module.
    ValueError
        If a lazy norm has seen no mini-batch yet, or statistics are paused by
        `bnlib.surgery.pause_statistics`; nothing is exchanged then.

    Warns
    -----
    UserWarning
        With the names of norms that stay as they are: a subclass whose ``forward`` does not call
        that of ``torch.nn``, as timm's BatchNormAct2d (batch norm, dropout and activation in
        one), or that derives from none of the classes that `bnlib.nn` has.

    See Also
    --------
    to_torch : The way back.

    Examples
    --------
    >>> from torch import nn
    >>> from bnlib.nn import from_torch
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    >>> type(from_torch(model)[1])
    <class 'bnlib.nn.batch_norm.BatchNorm2d'>
    """
    modules = named_modules(module)
    layers = {name: m for name, m in modules if isinstance(m, NORMS) and not _is_ours(type(m))}
    refuse_lazy(layers, "norm")
    _exchange(layers, OURS, _our_class)
    return module


def _is_ours(cls: type) -> bool:
    """Whether `cls` is, or derives from, a class of `bnlib.nn`."""
    return any(base.__module__.startswith(PACKAGE) for base in cls.__mro__)


def _exchange(
    layers: dict[str, nn.Module], table: dict[type, type], find: Callable[[type], type | str]
) -> None:
    """Give each layer its class in the other library, or warn with the reason against."""
    refuse_paused(layers)
    left: dict[str, list[str]] = {}
    classes = {name: _counterpart(type(m), table, find) for name, m in layers.items()}  # may raise
    for name, cls in classes.items():
        layer = layers[name]
        if isinstance(cls, str):
            left.setdefault(cls, []).append(f"{name or 'module'} ({type(layer).__name__})")
        else:
            layer.__class__ = cls
    for reason, names in left.items():
        stay = "stays as it is" if len(names) == 1 else "stay as they are"
        warnings.warn(f"{', '.join(names)} {stay}: {reason}", stacklevel=3)


def _counterpart(
    cls: type, table: dict[type, type], find: Callable[[type], type | str]
) -> type | str:
    """Return the class in the other library, from a table or by `find`, or why there is none."""
    if is_parametrized(cls):
        base = _counterpart(cls.__base__, table, find)
        return base if isinstance(base, str) else parametrized(cls, base)
    return table.get(cls) or made_from(cls, _with_ours, _without_ours) or find(cls)


def _torch_class(cls: type) -> type | str:
    """Return the class for a subclass of one of `bnlib.nn`, or why there is none."""
    if issubclass(cls, SyncBatchNorm):
        plain = made_from(cls, _synced)
        if plain in OURS or plain in TORCHS:
            return nn.SyncBatchNorm
        return "more than a SyncBatchNorm; if it was converted, call revert_sync_batchnorm first"
    if not issubclass(cls, tuple(TORCHS)):
        return "torch.nn has no such layer"
    if replaces_forward(cls, TORCHS):
        return "has a forward that does not call that of bnlib.nn"
    return _without_ours(cls)


def _our_class(cls: type) -> type | str:
    """Return the class for a subclass of one of ``torch.nn``, or why there is none."""
    if not issubclass(cls, tuple(OURS)):
        return "derives from no layer that bnlib.nn has"
    if replaces_forward(cls, OURS) or issubclass(cls, nn.SyncBatchNorm):
        return "has a forward that does not call that of a plain norm of torch.nn"
    return _with_ours(cls)


@functools.cache
def _with_ours(cls: type) -> type:
    """Return the class that is `cls` first and then the one of `bnlib.nn`.

    A ``super().forward`` in `cls` finds ours, which stands before torch's in the order of the
    classes.
    """
    ours = next(OURS[base] for base in cls.__mro__ if base in OURS)
    return type(cls.__name__, (cls, ours), _namespace(_with_ours, cls))


@functools.cache
def _without_ours(cls: type) -> type:
    """Return the class that is `cls` without those of `bnlib.nn` that it derives from.

    They are left out of the order of the classes, so a ``super().forward`` in `cls` finds
    torch's.
    """

    class WithoutOurs(type(cls)):
        def mro(cls) -> list[type]:
            first, *others = super().mro()
            return [first, *(base for base in others if not base.__module__.startswith(PACKAGE))]

    return WithoutOurs(cls.__name__, (cls,), _namespace(_without_ours, cls))


def _namespace(make: Callable[[type], type], cls: type) -> dict[str, object]:
    return {
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        **made_by(make, cls),
    }
