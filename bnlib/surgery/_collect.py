"""Show a model the batches of a loader, and collect what its batch norms receive."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bnlib.nn import _check
from bnlib.nn.batch_renorm import _BatchRenorm
from bnlib.nn.masked_batch_norm import _check_mask
from bnlib.surgery._modules import statistics
from bnlib.surgery._moments import Moments, PooledStatistics, merge_over_processes


class Collector:
    """Collects the moments of what the batch norms receive, by hooks.

    It writes into the running statistics; the caller keeps the old ones. All modules are to be in
    eval mode, so that each batch norm normalizes with what is written there.
    """

    def __init__(
        self,
        targets: Mapping[str, nn.Module],
        show: Callable[[Any], Any],
        *,
        unbiased: bool,
        group: Any,
    ) -> None:
        self.targets = targets
        self._show = show
        self._unbiased = unbiased
        self._group = group
        self._moments: dict[str, Moments] = {}
        self._batch = 0

    def at_once(self, batches: Iterable[Any]) -> dict[str, PooledStatistics]:
        """Collect in one pass; each batch norm normalizes with the statistics of the batch."""

        def collect(name: str, values: Tensor, examples: int) -> None:
            count, mean, var = self._moments[name].add(values, examples)
            if count == 1:
                raise ValueError(
                    f"batch {self._batch} has one value a channel at {name}, which has no "
                    "variance: use larger batches, drop the last one, or set layerwise=True"
                )
            store(self.targets[name], mean, var, name)

        return self._run(batches, collect)

    def layer_by_layer(self, batches: Iterable[Any]) -> dict[str, PooledStatistics]:
        """Collect in one pass a layer, each with the final statistics of those before it.

        Batches may take different paths: a layer waits until those that any batch reaches before
        it are done.
        """
        done: dict[str, PooledStatistics] = {}
        while len(done) < len(self.targets):
            first: dict[int, str] = {}  # the first open layer of each batch
            late: set[str] = set()  # open layers that a batch reaches behind another one

            def collect(
                name: str,
                values: Tensor,
                examples: int,
                first: dict[int, str] = first,
                late: set[str] = late,
            ) -> None:
                if name in done:
                    return
                if first.setdefault(self._batch, name) == name:
                    self._moments[name].add(values, examples)
                else:
                    late.add(name)

            found = self._run(batches, collect)
            if not found:
                break
            late = self._of_any_process(late)
            ready = {name: pooled for name, pooled in found.items() if name not in late}
            if not ready:
                raise RuntimeError(
                    f"the batches reach the layers {sorted(found)} in different orders: "
                    "use layerwise=False"
                )
            for name, pooled in ready.items():
                store(self.targets[name], pooled.mean, pooled.var, name)
                done[name] = pooled
        return done

    def _of_any_process(self, names: set[str]) -> set[str]:
        """Return the names of targets that are among the `names` of any process of the group."""
        if not (dist.is_available() and dist.is_initialized()):
            return names
        device = next(iter(self._moments.values())).mean.device
        flags = torch.tensor([float(name in names) for name in self.targets], device=device)
        dist.all_reduce(flags, group=self._group)
        return {name for name, flag in zip(self.targets, flags.tolist(), strict=True) if flag}

    def _run(
        self, batches: Iterable[Any], collect: Callable[[str, Tensor, int], None]
    ) -> dict[str, PooledStatistics]:
        """Run one pass with a hook at each target; merge over the processes."""
        self._moments = {name: _moments_of(target) for name, target in self.targets.items()}
        handles = [
            target.register_forward_pre_hook(self._hook(name, collect), with_kwargs=True)
            for name, target in self.targets.items()
        ]
        error = None
        try:
            with _uncompiled():
                for self._batch, batch in enumerate(batches):
                    self._show(batch)
        except Exception as caught:
            error = caught
        finally:
            for handle in handles:
                handle.remove()
        self._raise_together(error)
        if dist.is_available() and dist.is_initialized():
            merge_over_processes(list(self._moments.values()), self._group)
        reached = {name: m for name, m in self._moments.items() if m.count}
        for name, moments in reached.items():
            if self._unbiased and moments.count == 1:
                raise ValueError(f"{name} got a single value a channel, which has no variance")
        return {name: self._pooled(name, moments) for name, moments in reached.items()}

    def _pooled(self, name: str, moments: Moments) -> PooledStatistics:
        target = self.targets[name]
        # renormalization compares the biased variance of a mini-batch with the running one
        unbiased = self._unbiased and not isinstance(target, _BatchRenorm)
        return moments.pooled(unbiased, statistics(target)[1].shape)

    def _hook(self, name: str, collect: Callable[[str, Tensor, int], None]) -> Callable:
        features = len(self.targets[name].running_mean)

        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            arguments = inspect.signature(module.forward).bind(*args, **kwargs).arguments
            x, *_ = args or arguments.values()
            if x.dim() < 2 or x.shape[1] != features:
                return  # the batch norm itself will object
            values, examples = _that_count(x, arguments.get("mask"))
            if not values.isfinite().all():
                raise ValueError(f"batch {self._batch} is not finite at {name}")
            if values.numel():
                collect(name, values, examples)

        return hook

    def _raise_together(self, error: Exception | None) -> None:
        """Raise here and on all other processes, none of which may wait for a sum forever."""
        failures = float(error is not None)
        if dist.is_available() and dist.is_initialized():
            device = next(iter(self._moments.values())).mean.device
            message = torch.tensor([failures], device=device)
            dist.all_reduce(message, group=self._group)
            failures = message.item()
        if error is not None:
            raise error
        if failures:
            raise RuntimeError("it failed on another process of the group; nothing was changed")


def _uncompiled() -> contextlib.AbstractContextManager[None]:
    """Run compiled modules as they were written: compiled code does not call newer hooks."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import takes seconds
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


def _moments_of(norm: nn.Module) -> Moments:
    mean, spread = statistics(norm)
    return Moments(len(mean), mean.device, spread.shape[-1] if spread.dim() > 1 else 1)


def _that_count(x: Tensor, mask: Tensor | None) -> tuple[Tensor, int]:
    """Return the values (d, count) of an input (n, d, ...) that count, and of how many examples."""
    if mask is None:
        return x.transpose(0, 1).flatten(1), x.shape[0]
    _check_mask(mask, (x.shape[0], *x.shape[2:]))
    return x.movedim(1, -1)[mask].T, int(mask[:, None].flatten(1).any(1).sum())


def check_fit(norm: nn.Module, mean: Tensor, var: Tensor, name: str = "") -> None:
    """Refuse finite statistics that would be infinite in the type of the buffers."""
    for buffer, value in zip(statistics(norm), (mean, var), strict=True):
        if not value.to(buffer.dtype).isfinite().all():
            raise ValueError(
                f"{name or type(norm).__name__}: expected running statistics up to "
                f"{torch.finfo(buffer.dtype).max:g}, the largest number of {buffer.dtype}, got "
                f"{value.abs().max():g}; keep the batch norms in float32"
            )


def store(norm: nn.Module, mean: Tensor, var: Tensor, name: str = "") -> None:
    """Write running statistics in place, unless they do not fit."""
    check_fit(norm, mean, var, name)
    put_back(norm, mean, var)


def put_back(norm: nn.Module, mean: Tensor, var: Tensor) -> None:
    """Write running statistics in place that were there before, finite or not."""
    for buffer, value in zip(statistics(norm), (mean, var), strict=True):
        buffer.copy_(value.view_as(buffer))


def _is_iterable(loader: object) -> bool:
    return isinstance(loader, Iterable) or hasattr(loader, "__getitem__")


class Batches:
    """The first `max_batches` batches of a loader, with a progress bar."""

    def __init__(self, loader: Iterable[Any], max_batches: int | None, progress: bool) -> None:
        if max_batches is not None:
            _check.integer("max_batches", max_batches, 1)
        if isinstance(loader, Tensor | Mapping | str) or not _is_iterable(loader):
            raise TypeError(
                "loader: expected an iterable of batches, such as a DataLoader or a list, got "
                f"{type(loader).__name__}; for a single batch x, write [x]"
            )
        self._loader, self._max, self._progress = loader, max_batches, progress

    def __iter__(self) -> Iterator[Any]:
        batches = itertools.islice(self._loader, self._max)
        if not self._progress:
            yield from batches
            return
        from tqdm.auto import tqdm

        try:
            total = len(self._loader)
        except TypeError:  # a stream
            total = None
        if self._max is not None:
            total = self._max if total is None else min(total, self._max)
        yield from tqdm(batches, total=total, unit="batch")
