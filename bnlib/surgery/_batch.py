"""Read a mini-batch of a data loader: what of it the model takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map


def show_batch(model: nn.Module, batch: Any) -> Any:
    """Call the model on a tensor, on the first of a tuple or list, or on keyword arguments."""
    args, kwargs = on_device(model, read_batch(batch))
    return model(*args, **kwargs)


def check_forward(forward: object) -> None:
    """Refuse what is given for ``forward=`` and cannot be called."""
    if forward is not None and not callable(forward):
        raise TypeError(f"forward: expected a function of a model and a batch, got {forward!r}")


def read_batch(batch: Any) -> tuple[tuple, dict]:
    """Return the positional and the keyword arguments that a mini-batch holds."""
    if isinstance(batch, Mapping):
        return (), dict(batch)
    if isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    if isinstance(batch, Tensor):
        return (batch,), {}
    raise TypeError(
        "a batch must be a tensor, a tuple or list that starts with one, or a dict, not "
        f"{type(batch).__name__}: say what to do with it by forward=lambda model, batch: ..."
    )


def on_device(model: nn.Module, tree: Any) -> Any:
    """Move the tensors of a tree to where the model's buffers are."""
    device = next((tensor.device for tensor in model.buffers()), None)
    return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, tree)
