"""What counts as a batch norm, and how modules in a tree are found, exchanged and switched."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from bnlib.nn.decorrelated_batch_norm import _DecorrelatedBatchNorm
from bnlib.surgery._family import holds_running_mean, named_others, others, say

BATCH_NORMS: tuple[type, ...] = (_BatchNorm,)
"""BatchNorm1d, 2d, 3d, SyncBatchNorm, the lazy ones, and whatever derives from them."""

LINEAR_LAYERS: tuple[type, ...] = (nn.Linear, _ConvNd)
"""Layers that a batch norm can be folded into; the transposed convolutions are `_ConvNd`, too."""


WITH_STATISTICS: tuple[type, ...] = (*BATCH_NORMS, _DecorrelatedBatchNorm)
"""What keeps running statistics of its mini-batches."""


def statistics(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Return the running mean and the running variance, or covariance, of a norm."""
    if isinstance(norm, _DecorrelatedBatchNorm):
        return norm.running_mean, norm.running_cov
    return norm.running_mean, norm.running_var


def has_statistics(norm: nn.Module) -> bool:
    """Return whether a norm holds running statistics."""
    return all(value is not None for value in statistics(norm))


def named_batch_norms(
    model: nn.Module, kinds: tuple[type, ...] = BATCH_NORMS
) -> dict[str, nn.Module]:
    """Return the batch norms of a model, each once, under the first of its names."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def select_batch_norms(
    model: nn.Module,
    layers: Collection[str] | None,
    is_default: Callable[[nn.Module], bool] = lambda module: True,
    kinds: tuple[type, ...] = BATCH_NORMS,
) -> dict[str, nn.Module]:
    """Return the batch norms named in `layers`; for None, those that `is_default` accepts."""
    found = named_batch_norms(model, kinds)
    if not found:
        seen = say(others(model))
        raise ValueError(f"the model has no batch norm{seen and f', but {seen}'}")
    if layers is None:
        found = _not_lazy(found)
        chosen = {name: module for name, module in found.items() if is_default(module)}
        if not chosen:
            raise ValueError(
                "every batch norm of the model is frozen or without running statistics; "
                f"name the layers that are meant, out of {list(found)}"
            )
        return chosen
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise TypeError(f"layers: expected a collection of names, got {layers!r}")
    layers = list(layers)
    unknown = [name for name in layers if name not in found]
    if unknown or not layers:
        there = {name: kind for name, kind in named_others(model).items() if name in unknown}
        seen = "".join(f"; {name} is a {kind}" for name, kind in there.items())
        raise ValueError(f"layers: {unknown} are no batch norms; the model has {list(found)}{seen}")
    return _not_lazy({name: found[name] for name in layers})


def _not_lazy(norms: dict[str, nn.Module]) -> dict[str, nn.Module]:
    for name, norm in norms.items():
        tensors = (*norm.parameters(recurse=False), *norm.buffers(recurse=False))
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
            raise ValueError(
                f"{name or 'the model'} has lazy parameters: run it once on an input first"
            )
    return norms


def warn_of_others(model: nn.Module) -> None:
    """Name what holds a running mean and is not `WITH_STATISTICS`, nor frozen on purpose."""
    modules = dict(model.named_modules())
    left = [
        f"{name} ({kind})"
        for name, kind in named_others(model).items()
        if holds_running_mean(modules[name])
        and not isinstance(modules[name], WITH_STATISTICS)
        and "Frozen" not in kind
    ]
    if left:
        warnings.warn(
            f"these keep running statistics of another kind, and stay as they are: {left}",
            stacklevel=3,
        )


def hooks_of(module: nn.Module) -> list[str]:
    """Return the kinds of hooks that a module has, such as "forward pre hooks"."""
    return [
        attribute.strip("_").replace("_", " ")
        for attribute, hooks in vars(module).items()
        if attribute.endswith("_hooks") and hooks
    ]


def substitute(model: nn.Module, exchanges: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put each value in the place of its key, under all names; return the root."""
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if child in exchanges:
                setattr(parent, key, exchanges[child])
    return exchanges.get(model, model)


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and each back into its own mode whatever happens."""
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, training in modes.items():
            module.training = training
