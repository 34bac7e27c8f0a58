"""Adapt a trained model to data of another distribution by its statistics alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable
from typing import Any

from torch import nn

from bnlib.surgery._collect import store
from bnlib.surgery._family import check_statistics
from bnlib.surgery._modules import (
    WITH_STATISTICS,
    has_statistics,
    select_batch_norms,
    statistics,
    warn_of_others,
)
from bnlib.surgery.freeze import is_frozen
from bnlib.surgery.recalibrate import recalibrate


def adapt(
    model: nn.Module, loader: Iterable[Any], *, prior: float = 0, **options: Any
) -> nn.Module:
    """Return a copy of a model with the running statistics of target data (AdaBN).

    :cite:t:`li2017revisiting`: the weights stay, and each batch norm standardizes the target data
    by their own mean and variance. The method needs no labels. It does not help, and can do harm,
    where the classes of the target data have other frequencies than those of the training data.

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
        As :func:`~bnlib.surgery.recalibrate`; ValueError for a `prior` that is no number of at
        least 0.

    See Also
    --------
    use_batch_statistics : Adapt to each mini-batch at prediction time.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import adapt
    >>> net = torch.nn.BatchNorm1d(2).eval()
    >>> target = 5 + torch.randn(100, 2)
    >>> adapted = adapt(net, target.split(50))
    >>> bool(adapted(target).mean().abs() < 1e-5), net.running_mean.tolist()
    (True, [0.0, 0.0])
    """
    if isinstance(prior, bool) or not isinstance(prior, int | float) or not 0 <= prior < math.inf:
        raise ValueError(f"prior must be a number of examples, 0 or more, not {prior!r}")
    adapted = copy.deepcopy(model)
    for name, target in recalibrate(adapted, loader, **options).items():
        weight = target.examples / (prior + target.examples)
        new = [
            (1 - weight) * old.double() + weight * value.view_as(old)
            for old, value in zip(
                statistics(model.get_submodule(name)), (target.mean, target.var), strict=True
            )
        ]
        store(adapted.get_submodule(name), *new, name)
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
        A copy whose batch norms have no running statistics (``track_running_stats`` is False). A
        ghost batch norm goes on to take those of its ghost batches.

    Raises
    ------
    TypeError
        If `model` is no module or `layers` is a string.
    ValueError
        If there is no such batch norm, or one of a class that does more to its input than a batch
        norm does.

    Warns
    -----
    UserWarning
        If other modules keep running statistics, and stay as they are.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import use_batch_statistics
    >>> net = use_batch_statistics(torch.nn.BatchNorm1d(2).eval())
    >>> bool(net(5 + torch.randn(100, 2)).mean().abs() < 1e-5)
    True
    """
    result = copy.deepcopy(model)
    chosen = select_batch_norms(
        result, layers, lambda bn: has_statistics(bn) and not is_frozen(bn), WITH_STATISTICS
    )
    for name, batch_norm in chosen.items():
        check_statistics(batch_norm, name)
    if layers is None:
        warn_of_others(model)
    for batch_norm in chosen.values():
        batch_norm.track_running_stats = False
        for name in ("running_mean", "running_var", "running_cov", "num_batches_tracked"):
            if name in batch_norm._buffers:
                setattr(batch_norm, name, None)
    return result
