"""Replace batch norms by norms that do not depend on the mini-batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection

from torch import nn

from bnlib.surgery._modules import select_batch_norms, substitute

Factory = Callable[[nn.Module], nn.Module]


def replace(model: nn.Module, factory: Factory, layers: Collection[str] | None = None) -> nn.Module:
    """Return a copy of a model with other modules in the place of its batch norms.

    The function changes: a group norm knows no running statistics, and the model has to be trained
    further, or from scratch (:cite:t:`wu2018group`).

    Parameters
    ----------
    model : torch.nn.Module
        It is not modified.
    factory : callable
        ``factory(batch_norm)`` returns the new module; :func:`~bnlib.surgery.group_norm`,
        :func:`~bnlib.surgery.layer_norm` and :func:`~bnlib.surgery.instance_norm` return factories.
        They keep eps, weight and bias. A batch norm under several names is replaced by one module.
    layers : collection of str, optional
        Names of the batch norms; all by default.

    Returns
    -------
    torch.nn.Module
        The copy. A new module is in the mode of the batch norm whose place it takes.

    Raises
    ------
    TypeError
        If `model` is no module, `layers` is a string, or the factory returns no module.
    ValueError
        If there is no such batch norm, or the factory refuses one.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3), torch.nn.BatchNorm2d(12))
    >>> new = replace(net, group_norm(4))
    >>> type(new[1]).__name__, new[1].num_groups
    ('GroupNorm', 4)
    """
    result = copy.deepcopy(model)
    exchanges = {}
    for name, batch_norm in select_batch_norms(result, layers).items():
        try:
            module = factory(batch_norm)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if not isinstance(module, nn.Module):
            raise TypeError(f"{name}: the factory returned no module but {type(module).__name__}")
        exchanges[batch_norm] = module.train(batch_norm.training)
    return substitute(result, exchanges)


def group_norm(num_groups: int = 32) -> Factory:
    """Return a factory of group norms for :func:`~bnlib.surgery.replace`.

    Parameters
    ----------
    num_groups : int
        :cite:t:`wu2018group` take 32. A layer with c channels gets the largest number of groups
        that divides c, is at most this, and leaves two channels or more a group: a group of a
        single channel is an instance norm, and erases data without spatial axes.

    Returns
    -------
    callable
        From a batch norm to a ``torch.nn.GroupNorm`` with its eps, weight and bias.

    Raises
    ------
    ValueError
        If `num_groups` is below 1; from the factory, if the batch norm has a single channel.

    Examples
    --------
    >>> import torch
    >>> group_norm(32)(torch.nn.BatchNorm2d(48)).num_groups
    24
    """
    if num_groups < 1:
        raise ValueError(f"num_groups must be at least 1, not {num_groups}")

    def factory(batch_norm: nn.Module) -> nn.Module:
        channels = batch_norm.num_features
        _check_width(batch_norm, "a group norm")
        most = max(1, min(num_groups, channels // 2))
        groups = next(g for g in range(most, 0, -1) if channels % g == 0)
        new = nn.GroupNorm(groups, channels, batch_norm.eps, batch_norm.affine)
        return _take_over(new, batch_norm)

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
        From the factory, if a BatchNorm1d has a single channel.

    Examples
    --------
    >>> import torch
    >>> norm = layer_norm()(torch.nn.BatchNorm1d(5))
    >>> norm.num_groups, norm.num_channels
    (1, 5)
    """

    def factory(batch_norm: nn.Module) -> nn.Module:
        _check_width(batch_norm, "a layer norm")
        channels = batch_norm.num_features
        return _take_over(nn.GroupNorm(1, channels, batch_norm.eps, batch_norm.affine), batch_norm)

    return factory


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
    >>> type(instance_norm()(torch.nn.BatchNorm2d(5))).__name__
    'InstanceNorm2d'
    """

    def factory(batch_norm: nn.Module) -> nn.Module:
        kinds = {nn.BatchNorm2d: nn.InstanceNorm2d, nn.BatchNorm3d: nn.InstanceNorm3d}
        kind = next((new for old, new in kinds.items() if isinstance(batch_norm, old)), None)
        if kind is None:
            raise ValueError(
                f"{type(batch_norm).__name__} may get data (m, d), of which an instance norm "
                "leaves nothing; give a factory that builds the norm for your data"
            )
        new = kind(batch_norm.num_features, batch_norm.eps, affine=batch_norm.affine)
        return _take_over(new, batch_norm)

    return factory


def _check_width(batch_norm: nn.Module, what: str) -> None:
    spatial = isinstance(batch_norm, nn.BatchNorm2d | nn.BatchNorm3d)
    if batch_norm.num_features == 1 and not spatial:
        raise ValueError(f"{what} over the single value of an example would erase it")


def _take_over(new: nn.Module, batch_norm: nn.Module) -> nn.Module:
    """Move the parameters of the batch norm to a norm of as many channels."""
    for key in ("weight", "bias"):
        old = getattr(batch_norm, key)
        copied = None if old is None else nn.Parameter(old.detach().clone(), old.requires_grad)
        setattr(new, key, copied)
    return new
