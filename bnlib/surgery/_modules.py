"""What counts as a batch norm, and how modules in a tree are found, exchanged and switched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

BATCH_NORMS: tuple[type, ...] = (_BatchNorm,)
"""BatchNorm1d, 2d, 3d, SyncBatchNorm, the lazy ones, and whatever derives from them."""

LINEAR_LAYERS: tuple[type, ...] = (nn.Linear, _ConvNd)
"""Layers that a batch norm can be folded into; the transposed convolutions are `_ConvNd`, too."""


def is_batch_norm(module: nn.Module) -> bool:
    """Return whether the module normalizes each channel over the mini-batch."""
    return isinstance(module, BATCH_NORMS)


def has_statistics(module: nn.Module) -> bool:
    """Return whether a batch norm holds running statistics."""
    return module.running_mean is not None and module.running_var is not None


def named_batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Return the batch norms of a model, each once, under the first of its names."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    return {name: module for name, module in model.named_modules() if is_batch_norm(module)}


def select_batch_norms(
    model: nn.Module,
    layers: Collection[str] | None,
    is_default: Callable[[nn.Module], bool] = lambda module: True,
) -> dict[str, nn.Module]:
    """Return the batch norms named in `layers`; for None, those that `is_default` accepts."""
    found = named_batch_norms(model)
    if not found:
        raise ValueError("the model has no batch norm")
    if layers is None:
        chosen = {name: module for name, module in found.items() if is_default(module)}
        if not chosen:
            raise ValueError(
                "every batch norm of the model is frozen or without running statistics; "
                f"name the layers that are meant, out of {list(found)}"
            )
        return chosen
    if isinstance(layers, str):
        raise TypeError(f"layers must be a collection of names, not the string {layers!r}")
    unknown = [name for name in layers if name not in found]
    if unknown or not layers:
        raise ValueError(f"layers: {unknown} are no batch norms; the model has {list(found)}")
    return {name: found[name] for name in layers}


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
