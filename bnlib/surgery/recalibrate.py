"""Replace running statistics by the exact statistics of a data set."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from bnlib.surgery._batch import check_forward, show_batch
from bnlib.surgery._collect import Batches, Collector, check_fit, put_back
from bnlib.surgery._family import check_statistics
from bnlib.surgery._modules import (
    WITH_STATISTICS,
    eval_mode,
    has_statistics,
    select_batch_norms,
    statistics,
    warn_of_others,
)
from bnlib.surgery._moments import PooledStatistics
from bnlib.surgery.freeze import is_frozen


def recalibrate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    layers: Collection[str] | None = None,
    layerwise: bool = False,
    unbiased: bool = True,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    max_batches: int | None = None,
    progress: bool = False,
    group: Any = None,
) -> dict[str, PooledStatistics]:
    """Set the running statistics of a model to those of a data set, in place.

    The moving average of training weighs the last mini-batches most, and mixes in activations of
    older weights; the statistics of one pass over the data do not (the "precise" statistics of
    :cite:t:`wu2021rethinking`, Section 3). Batches are merged with their counts and with the
    variance between them (:cite:t:`chan1983algorithms`), so that a small last batch is right.

    Parameters
    ----------
    model : torch.nn.Module
        Only its running means and variances change. Dropout is off meanwhile.
    loader : iterable
        Of batches: a tensor, a tuple or list whose first element is the model's input, or a dict of
        keyword arguments. It is read once, and may be a stream; with `layerwise` once a layer.
    layers : collection of str, optional
        Names of the batch norms; by default all but the frozen ones: those that
        :func:`~bnlib.surgery.freeze` froze, and those in eval mode within a model in train mode.
    layerwise : bool
        If False, one pass: each batch norm meanwhile normalizes with the batch's statistics, as in
        training, and the deeper ones see its noise. If True, one pass a layer, in the order of
        their calls: each sees what it will see in eval mode, and the result does not depend on how
        the data are cut into batches.
    unbiased : bool
        Divide by the number of values minus 1, as PyTorch does for its running variance. Batch
        renormalization, which keeps the biased variance, gets that whatever this is.
    forward : callable, optional
        ``forward(model, batch)`` shows the model a batch of another form.
    max_batches : int, optional
        Stop after so many batches.
    progress : bool
        Show a progress bar.
    group : torch.distributed.ProcessGroup, optional
        Where ``torch.distributed`` is initialized, each process reads its own loader, the sums are
        merged over this group (the default group for None), and all get the same statistics. The
        noise of `layerwise` = False stays that of the process's own batch. Give the module within a
        ``DistributedDataParallel``.

    Returns
    -------
    dict of str to PooledStatistics
        Of each layer that the data reached; a layer that they did not reach keeps its statistics.

    Raises
    ------
    TypeError
        If `loader` is a single tensor or a dict, a batch is of another form, `layerwise` is to read
        an iterator, or `max_batches` is no integer.
    ValueError
        If there is no batch norm to set, or one of a class that does more to its input than a batch
        norm does, or whose statistics are paused (:func:`~bnlib.surgery.pause_statistics`); if the
        loader is empty, a batch gives a single value a channel, an input is not
        finite, or statistics are too large for the type of their buffers (a float16 ends at 65504).
    RuntimeError
        If it failed on another process of the group, or if `layerwise` finds no order, as a batch
        reaches two layers in another order than a second batch.

    Warns
    -----
    UserWarning
        If other modules keep running statistics that are not those of the data: those of an
        instance norm are averages over examples. They stay as they are. Frozen batch norms
        (`bnlib.nn.FrozenBatchNorm2d`, torchvision's) stay so without a word.

    Notes
    -----
    Of the relatives in `bnlib.nn`: a masked batch norm counts the positions that its mask counts; a
    decorrelated one gets mean and covariance; ghost batches, conditions and streams do not matter
    to the statistics of the data, except that a split batch norm sets those of the stream that is
    in use (:func:`bnlib.nn.use_stream`).

    Modes, momentum, ``num_batches_tracked`` and all parameters stay as they were. After an error,
    also one that the loader raises, the running statistics are the old ones, too. Sums are in
    float64; the memory needed beyond a forward pass is that of one layer's input in float64.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import recalibrate
    >>> net = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
    >>> x = torch.randn(100, 3)
    >>> statistics = recalibrate(net, x.split(32))
    >>> statistics["0"].count
    100
    >>> torch.testing.assert_close(net[0].running_mean, x.mean(0))
    >>> torch.testing.assert_close(net[0].running_var, x.var(0))
    """
    targets = select_batch_norms(model, layers, _is_default(model), WITH_STATISTICS)
    for name, batch_norm in targets.items():
        if not has_statistics(batch_norm):
            raise ValueError(f"{name} has no running statistics (track_running_stats=False)")
        check_statistics(batch_norm, name)
    if layers is None:
        warn_of_others(model)
    check_forward(forward)
    batches = Batches(loader, max_batches, progress)
    if layerwise and isinstance(loader, Iterator):
        raise TypeError(
            "layerwise reads the data once a layer: give a data loader or a list, not an iterator"
        )
    show = functools.partial(forward or show_batch, model)
    collector = Collector(targets, show, unbiased=unbiased, group=group)
    old = {name: [buffer.clone() for buffer in statistics(bn)] for name, bn in targets.items()}
    try:
        with eval_mode(model), torch.no_grad():
            collect = collector.layer_by_layer if layerwise else collector.at_once
            result = collect(batches)
    finally:
        for name, batch_norm in targets.items():
            put_back(batch_norm, *old[name])
    if not result:
        raise ValueError("the loader is empty, or its data reach no batch norm: nothing changed")
    for name, pooled in result.items():
        check_fit(targets[name], pooled.mean, pooled.var, name)
    for name, pooled in result.items():
        put_back(targets[name], pooled.mean, pooled.var)
    return result


def _is_default(model: nn.Module) -> Callable[[nn.Module], bool]:
    def is_default(batch_norm: nn.Module) -> bool:
        frozen = is_frozen(batch_norm) or (model.training and not batch_norm.training)
        return has_statistics(batch_norm) and not frozen

    return is_default
