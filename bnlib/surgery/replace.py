"""Replace batch norms by other norms, and keep what has a meaning there."""

from __future__ import annotations

import copy
import inspect
import itertools
import sys
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin

from bnlib.nn import DyT, ScaleNorm, _check
from bnlib.nn.decorrelated_batch_norm import _DecorrelatedBatchNorm
from bnlib.nn.split_batch_norm import _SplitBatchNorm
from bnlib.surgery._family import NORMS, axes, is_plain, is_relative, split
from bnlib.surgery._modules import (
    WITH_STATISTICS,
    has_statistics,
    hooks_of,
    named_batch_norms,
    select_batch_norms,
    substitute,
)
from bnlib.surgery.freeze import freeze_as, is_frozen

Factory = Callable[[nn.Module], nn.Module]

FEWEST_CHANNELS = 2
"""Of a group of a group norm on images: one is an instance norm."""
FEWEST_FEATURES = 8
"""Of a group on data that may lack spatial axes; a group of two is left with one bit, +1 or -1."""

WIDTHS = {"num_features", "num_channels", "normalized_shape"}
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
FEATURES_LAST = (nn.LayerNorm, nn.RMSNorm, ScaleNorm, DyT)


def replace(model: nn.Module, factory: Factory, layers: Collection[str] | None = None) -> nn.Module:
    """Return a copy of a model with other modules in the place of its batch norms.

    With most norms the function changes: a group norm knows no running statistics, and the model
    has to be trained further, or from scratch (:cite:t:`wu2018group`). Another class of batch norm,
    which :func:`~bnlib.surgery.to` puts in place with the old statistics, computes the same in eval
    mode.

    Parameters
    ----------
    model : torch.nn.Module
        It is not modified.
    factory : callable
        ``factory(batch_norm)`` returns the new module. Factories come from
        :func:`~bnlib.surgery.to`, :func:`~bnlib.surgery.group_norm`,
        :func:`~bnlib.surgery.layer_norm` and :func:`~bnlib.surgery.instance_norm`; or write one,
        ``lambda batch_norm: ...``. A batch norm under several names is replaced by one module.
    layers : collection of str, optional
        Names of the batch norms; all by default.

    Returns
    -------
    torch.nn.Module
        The copy. A new module is in the mode of the batch norm whose place it takes, and a batch
        norm that stands for a frozen one (:func:`~bnlib.surgery.freeze`) is frozen.

    Raises
    ------
    TypeError
        If `model` is no module, `layers` is a string, `factory` is no factory, or it returns no
        module.
    ValueError
        If there is no such batch norm; if one does more than normalize, and what it does could not
        be kept; if it takes a mask or a condition that the new module does not take; if it has
        hooks of any kind, or shares a parameter with other modules, and the new module has another
        one instead; or if the factory refuses it.

    Notes
    -----
    The factory is given batch norms of the copy, and those of this package hand their parameters
    on as they are, so that what was shared is shared. One of your own can do the same,
    ``new.weight = batch_norm.weight``.

    A batch norm with children behind it, such as timm's ``BatchNormAct2d`` with its `drop` and
    `act`, becomes a ``torch.nn.Sequential`` of the new module and these children, which then is in
    the names of the state dict.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import group_norm, replace
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3), torch.nn.BatchNorm2d(12))
    >>> new = replace(net, group_norm(4))
    >>> type(new[1]).__name__, new[1].num_groups
    ('GroupNorm', 4)
    """
    _check_factory(factory)
    names = list(select_batch_norms(model, layers))
    result = copy.deepcopy(model)
    holders = _holders(result)
    exchanges = {}
    for name in names:
        batch_norm = result.get_submodule(name)
        try:
            exchanges[batch_norm] = _exchange(batch_norm, factory, holders)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name or 'the model'}: {error}") from error
    return substitute(result, exchanges)


def _check_factory(factory: object) -> None:
    if factory in (group_norm, layer_norm, instance_norm):
        raise TypeError(f"factory: write {factory.__name__}(), with parentheses")
    if isinstance(factory, type):
        raise TypeError(f"factory: write to({factory.__name__}), not the class itself")
    if isinstance(factory, nn.Module):
        raise TypeError(
            "factory: expected a function that makes a module for each batch norm, got the module "
            f"{factory}; write lambda batch_norm: {factory}, or copy one in it"
        )
    if not callable(factory):
        raise TypeError(f"factory: expected a function from module to module, got {factory!r}")


def _holders(model: nn.Module) -> dict[nn.Parameter, list[str]]:
    """Return the names of each parameter: several where modules share it."""
    holders: dict[nn.Parameter, list[str]] = {}
    for name, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                holders.setdefault(parameter, []).append(f"{name}.{key}".strip("."))
    return holders


def _exchange(
    batch_norm: nn.Module, factory: Factory, holders: dict[nn.Parameter, list[str]]
) -> nn.Module:
    """Return what takes the place of one batch norm, with all that stands behind it there."""
    plain, behind = _take_apart(batch_norm)
    new = factory(plain)
    if not isinstance(new, nn.Module):
        raise TypeError(f"the factory returned no module but {type(new).__name__}")
    if new is plain:
        return batch_norm
    given, taken = (inspect.signature(m.forward).parameters for m in (plain, new))
    variadic = any(parameter.kind in VARIADIC for parameter in taken.values())
    if not variadic and not {*[*given][1:]} <= {*[*taken][1:]}:  # what the input is called is free
        raise ValueError(
            f"a {type(plain).__name__} is called with {[*given]}, a {type(new).__name__} takes "
            + ("its input alone" if len(taken) == 1 else str([*taken]))
        )
    if hooks := hooks_of(batch_norm):
        raise ValueError(f"it has {' and '.join(hooks)}, which would be lost: remove them first")
    _check_shared(plain, new, holders)
    new.train(plain.training)
    if is_frozen(batch_norm):
        for norm in named_batch_norms(new, WITH_STATISTICS).values():
            freeze_as(norm, batch_norm)
    if not behind:
        return new
    whole = nn.Sequential(new, *behind)
    whole.training = batch_norm.training  # its children have modes of their own
    return whole


def _check_shared(
    batch_norm: nn.Module, new: nn.Module, holders: dict[nn.Parameter, list[str]]
) -> None:
    """Refuse a new module with a parameter of its own in the place of one that is shared."""
    for key, old in batch_norm.named_parameters(recurse=False):
        there = [p for name, p in new.named_parameters() if name.split(".")[-1] == key]
        if len(holders[old]) > 1 and any(parameter is not old for parameter in there):
            raise ValueError(
                f"its {key} is shared, {' = '.join(holders[old])}, and the new "
                f"{type(new).__name__} has one of its own: assign batch_norm.{key} to it in a "
                "factory, or end the sharing first"
            )


def _take_apart(batch_norm: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """Return a batch norm, and the modules behind it, of which a subclass may have some."""
    inside = next(batch_norm.children(), None)  # a relative has none but parametrizations
    if is_plain(batch_norm) or (is_relative(batch_norm) and inside is None):
        return batch_norm, []
    parts = split(batch_norm)
    if parts is None:
        raise ValueError(
            f"a {type(batch_norm).__name__} does more than normalize, and what it does would be "
            "lost; leave it out by `layers`"
        )
    return parts


def to(cls: type[nn.Module], **options: Any) -> Factory:
    """Return a factory of norms of one class for :func:`~bnlib.surgery.replace`.

    Parameters
    ----------
    cls : type
        A norm of `bnlib.nn` or ``torch.nn``, or a subclass. Of a class for 1, 2 or 3 spatial axes,
        the sibling for the axes of the batch norm is taken: with ``GhostBatchNorm2d``, a
        ``BatchNorm1d`` becomes a ``GhostBatchNorm1d``. Norms of the last axes, such as
        ``LayerNorm``, take the place of a ``BatchNorm1d`` only, on features (m, d).
    **options
        Arguments of `cls`, such as ``ghost_size=16`` or ``num_groups=8``.

    Returns
    -------
    callable
        From a batch norm to a module of `cls` with as many channels. What has a meaning there stays
        and is not given in the options: eps, momentum, dtype, device, weight and bias, the process
        group, and, where `cls` is a batch norm, running statistics and their counter. Weight and
        bias are the same objects as before. A split batch norm gets copies for each stream, a
        decorrelated one a diagonal covariance, and so all batch norms go on to compute the same in
        eval mode.

    Raises
    ------
    TypeError
        If `cls` is no class of norms, or a group norm without `num_groups`, or an option is the
        number of channels; from the factory, if `cls` does not know an option.
    ValueError
        From the factory: if there is no sibling, if `cls` refuses an option, and for an instance
        norm in the place of a batch norm that may get data (m, d), of which it leaves nothing.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import FrozenBatchNorm2d, GhostBatchNorm2d
    >>> from bnlib.surgery import replace, to
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).eval()
    >>> replace(net, to(GhostBatchNorm2d, ghost_size=16))[1].ghost_size
    16
    >>> x = torch.randn(2, 3, 9, 9)
    >>> torch.testing.assert_close(replace(net, to(FrozenBatchNorm2d))(x), net(x))
    """
    if not isinstance(cls, type):
        such = f", such as {type(cls).__name__}" if isinstance(cls, nn.Module) else ""
        raise TypeError(f"cls: expected a class{such}, got {cls!r}")
    if issubclass(cls, LazyModuleMixin):
        raise TypeError(f"cls: expected a class that is not lazy, got {cls.__name__}")
    if not issubclass(cls, (*NORMS, _SplitBatchNorm)):
        raise TypeError(
            f"cls: expected a norm of bnlib.nn or torch.nn, got {cls.__name__}; give replace a "
            f"factory, lambda batch_norm: {cls.__name__}(...)"
        )
    if issubclass(cls, nn.GroupNorm) and "num_groups" not in options:
        raise TypeError("num_groups: expected a number of groups; group_norm() chooses it itself")
    if given := WIDTHS & options.keys():
        raise TypeError(f"{min(given)}: a batch norm gives it its own; leave it out")

    def factory(batch_norm: nn.Module) -> nn.Module:
        kind = _sibling(cls, batch_norm)
        _check_data(kind, batch_norm)
        accepted = _arguments(kind)
        kept = {k: v for k, v in _options_of(batch_norm, kind).items() if k in accepted}
        try:
            new = kind(**(kept | options))
        except TypeError as error:
            if unknown := [name for name in options if name not in accepted]:
                raise TypeError(
                    f"to({cls.__name__}, ...): expected options among {accepted}, got {unknown}"
                ) from error
            raise
        if not isinstance(new, _SplitBatchNorm):
            _take_over(new, batch_norm)
            return new
        for norm in new.streams:
            _take_over(norm, copy.deepcopy(batch_norm))
        return new

    return factory


def group_norm(num_groups: int = 32) -> Factory:
    """Return a factory of group norms for :func:`~bnlib.surgery.replace`.

    Parameters
    ----------
    num_groups : int
        :cite:t:`wu2018group` take 32. A layer with c channels gets the largest number of groups
        that divides c, is at most this, and leaves enough values in a group: on images two
        channels, as a single one is an instance norm; for a ``BatchNorm1d`` 8 channels, or one
        group of all where there are fewer than 16.

    Returns
    -------
    callable
        From a batch norm to a ``torch.nn.GroupNorm`` with its eps, weight and bias.

    Raises
    ------
    TypeError, ValueError
        If `num_groups` is no integer of at least 1; from the factory, if a ``BatchNorm1d`` has
        fewer than 3 channels.

    Notes
    -----
    The data of a ``BatchNorm1d`` may be features (m, d) or sequences (n, c, l), which the layer
    does not tell, so the factory supposes features. Two of them in a group are left with one bit,
    +1 and -1 or the reverse, and a network does not learn from that. If they are sequences,
    ``lambda batch_norm: torch.nn.GroupNorm(...)`` sets any number of groups.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import group_norm
    >>> group_norm(32)(torch.nn.BatchNorm2d(48)).num_groups
    24
    >>> group_norm(32)(torch.nn.BatchNorm1d(48)).num_groups
    6
    """
    _check.integer("num_groups", num_groups, 1)

    def factory(batch_norm: nn.Module) -> nn.Module:
        channels = batch_norm.num_features
        least = FEWEST_FEATURES if 2 in axes(batch_norm) else FEWEST_CHANNELS
        most = max(1, min(num_groups, channels // least))
        groups = next(g for g in range(most, 0, -1) if channels % g == 0)
        return to(nn.GroupNorm, num_groups=groups)(batch_norm)

    return factory


def layer_norm() -> Factory:
    """Return a factory of norms over channels and positions for :func:`~bnlib.surgery.replace`.

    Returns
    -------
    callable
        From a batch norm to a ``torch.nn.GroupNorm`` of one group: layer normalization
        (:cite:t:`ba2016layer`) with channels on axis 1 and one weight a channel.

    Raises
    ------
    ValueError
        From the factory, if a ``BatchNorm1d`` has fewer than 3 channels.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import layer_norm
    >>> norm = layer_norm()(torch.nn.BatchNorm1d(5))
    >>> norm.num_groups, norm.num_channels
    (1, 5)
    """
    return to(nn.GroupNorm, num_groups=1)


def instance_norm() -> Factory:
    """Return a factory of instance norms for :func:`~bnlib.surgery.replace`.

    Returns
    -------
    callable
        From a batch norm over images or volumes to an instance norm
        (:cite:t:`ulyanov2016instance`) with its eps, weight and bias.

    Raises
    ------
    ValueError
        From the factory, for a BatchNorm1d: on data (m, d), an instance norm has a single value
        each to normalize; and for a kind of batch norm that says no number of axes.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import instance_norm
    >>> type(instance_norm()(torch.nn.BatchNorm2d(5))).__name__
    'InstanceNorm2d'
    """
    return to(nn.InstanceNorm2d)


def _sibling(cls: type, batch_norm: nn.Module) -> type:
    """Return the class for the axes of a batch norm: ``GhostBatchNorm1d`` for a ``...2d``."""
    number = {(2, 3): "1d", (4,): "2d", (5,): "3d"}.get(tuple(sorted(axes(batch_norm))))
    stem, ending = cls.__name__[:-2], cls.__name__[-2:]
    if number is None or ending not in ("1d", "2d", "3d") or ending == number:
        return cls
    sibling = getattr(sys.modules[cls.__module__], stem + number, None)
    if sibling is None:
        raise ValueError(f"there is no {stem}{number} for a {type(batch_norm).__name__}")
    return sibling


def _check_data(kind: type, batch_norm: nn.Module) -> None:
    """Refuse a norm that would take other axes for the channels, or erase data (m, d)."""
    may_be_features = 2 in axes(batch_norm)
    if issubclass(kind, _InstanceNorm) and may_be_features:
        raise ValueError(
            f"{type(batch_norm).__name__} may get data (m, d), of which an instance norm "
            "leaves nothing; give a factory that builds the norm for your data"
        )
    if issubclass(kind, FEATURES_LAST) and not axes(batch_norm) <= {2, 3}:
        raise ValueError(
            f"a {kind.__name__} normalizes the last axis, and the channels of a "
            f"{type(batch_norm).__name__} are on axis 1; layer_norm() normalizes them"
        )
    few = batch_norm.num_features < 3 and issubclass(kind, nn.GroupNorm | nn.LayerNorm)
    if few and may_be_features:
        raise ValueError(
            f"a {kind.__name__} over the {batch_norm.num_features} values of an example (m, d) "
            "would erase it, or all but their order; if the data have further axes, write "
            "lambda batch_norm: torch.nn.GroupNorm(1, batch_norm.num_features)"
        )


def _arguments(cls: type) -> list[str]:
    """Return the names of the arguments of a class, with those that it hands on to its bases."""
    names: list[str] = []
    streams = cls.norm.__mro__ if issubclass(cls, _SplitBatchNorm) else ()
    for base in (*cls.__mro__, *streams):
        if "__init__" in vars(base):
            _, *parameters = inspect.signature(base.__init__).parameters.values()
            names += [p.name for p in parameters if p.kind not in VARIADIC]
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                break
    return list(dict.fromkeys(names))


def _options_of(batch_norm: nn.Module, kind: type) -> dict[str, Any]:
    """Return the arguments that would make a batch norm again, under all names they may have."""
    affine = batch_norm.affine
    like = next(itertools.chain(batch_norm.parameters(), batch_norm.buffers()), None)
    options = {
        **dict.fromkeys(WIDTHS, batch_norm.num_features),
        "eps": batch_norm.eps,
        "momentum": batch_norm.momentum,
        "affine": affine,
        "elementwise_affine": affine,
        "bias": batch_norm.bias is not None,
        "track_running_stats": has_statistics(batch_norm),
        "process_group": getattr(batch_norm, "process_group", None),
        "refuse_nonfinite": getattr(batch_norm, "refuse_nonfinite", False),
        "device": None if like is None else like.device,
        "dtype": None if like is None else like.dtype,
    }
    if issubclass(kind, _InstanceNorm):
        del options["track_running_stats"]  # averages over examples, another thing
    if issubclass(kind, ScaleNorm):
        del options["eps"]  # the least length, not a variance
    return options


def _take_over(new: nn.Module, batch_norm: nn.Module) -> None:
    """Hand on parameters and, to a batch norm, copies of running statistics, each in its type."""
    for key in {"weight", "bias"} | batch_norm._parameters.keys():  # in a frozen one, buffers
        old, there = getattr(batch_norm, key), getattr(new, key, None)
        if old is None or there is None or old.shape != there.shape:
            continue
        setattr(new, key, old if isinstance(there, nn.Parameter) else old.detach().clone())
    keeps = isinstance(new, _NormBase) and not isinstance(new, _InstanceNorm)
    if not (keeps and has_statistics(new) and has_statistics(batch_norm)):
        return
    new.running_mean = batch_norm.running_mean.clone()
    if isinstance(new, _DecorrelatedBatchNorm):
        new.running_cov = torch.diag_embed(batch_norm.running_var.view(-1, new.group_size))
    else:
        new.running_var = batch_norm.running_var.clone()
    if batch_norm.num_batches_tracked is not None:
        new.num_batches_tracked = batch_norm.num_batches_tracked.clone()
