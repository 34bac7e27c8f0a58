"""Adapt a trained model to data of another distribution by its statistics alone."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import Any

from torch import nn

from bnlib.surgery._collect import store
from bnlib.surgery._modules import has_statistics, select_batch_norms
from bnlib.surgery.freeze import is_frozen
from bnlib.surgery.recalibrate import recalibrate


def adapt(
    model: nn.Module, loader: Iterable[Any], *, prior: float = 0, **options: Any
) -> nn.Module:
    """Return a copy of a model with the running statistics of target data (AdaBN).

    :cite:t:`li2017revisiting`: the weights stay, and each batch norm standardizes the target data
    by their own mean and variance. It needs no labels. It is no help, and can do harm, where the
    classes of the target data have other frequencies than those of the training data.

    Parameters
    ----------
    model : torch.nn.Module
        Trained on the source data. It is not modified.
    loader : iterable
        Batches of the target data, as for :func:`~bnlib.surgery.recalibrate`.
    prior : float
        The source statistics weigh as much as this number of target examples, for small target
        sets (:cite:t:`schneider2020improving`, Section 2): with n examples, mean =
        (prior mean_source + n mean_target) / (prior + n), and the variance likewise. 0 takes the
        target's alone.
    **options
        The other options of :func:`~bnlib.surgery.recalibrate`, such as `layerwise`.

    Returns
    -------
    torch.nn.Module
        The adapted copy, its modes as in `model`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As :func:`~bnlib.surgery.recalibrate`; ValueError for a negative `prior`.

    See Also
    --------
    use_batch_statistics : Adapt to each mini-batch at prediction time.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.BatchNorm1d(2).eval()
    >>> target = 5 + torch.randn(100, 2)
    >>> adapted = adapt(net, target.split(50), progress=False)
    >>> bool(adapted(target).mean().abs() < 1e-5), net.running_mean.tolist()
    (True, [0.0, 0.0])
    """
    if not prior >= 0:
        raise ValueError(f"prior must be a number of examples, 0 or more, not {prior}")
    adapted = copy.deepcopy(model)
    for name, target in recalibrate(adapted, loader, **options).items():
        source = model.get_submodule(name)
        weight = target.examples / (prior + target.examples)
        mean = (1 - weight) * source.running_mean.double() + weight * target.mean
        var = (1 - weight) * source.running_var.double() + weight * target.var
        store(adapted.get_submodule(name), mean, var)
    return adapted


def use_batch_statistics(model: nn.Module, layers: Collection[str] | None = None) -> nn.Module:
    """Return a copy of a model that normalizes by the mini-batch in eval mode, too.

    Prediction-time batch normalization (:cite:t:`nado2020evaluating`): each mini-batch of
    test data is standardized by its own statistics. A prediction then depends on the other examples
    of its mini-batch, which must come from the same distribution, with all classes mixed.

    Parameters
    ----------
    model : torch.nn.Module
        It is not modified.
    layers : collection of str, optional
        Names of the batch norms; by default all but those that :func:`~bnlib.surgery.freeze` froze.

    Returns
    -------
    torch.nn.Module
        A copy whose batch norms have no running statistics (``track_running_stats`` is False).

    Raises
    ------
    TypeError
        If `model` is no module or `layers` is a string.
    ValueError
        If there is no such batch norm.

    Examples
    --------
    >>> import torch
    >>> net = use_batch_statistics(torch.nn.BatchNorm1d(2).eval())
    >>> bool(net(5 + torch.randn(100, 2)).mean().abs() < 1e-5)
    True
    """
    result = copy.deepcopy(model)
    chosen = select_batch_norms(result, layers, lambda bn: has_statistics(bn) and not is_frozen(bn))
    for batch_norm in chosen.values():
        batch_norm.track_running_stats = False
        batch_norm.running_mean = None
        batch_norm.running_var = None
        batch_norm.num_batches_tracked = None
    return result
