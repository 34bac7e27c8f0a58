"""Let running statistics rest while a model runs in train mode."""

from __future__ import annotations

import contextlib
import copyreg
import functools
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_LOCK = threading.Lock()  # checkpointing repeats a pass in autograd's threads


@contextlib.contextmanager
def pause_statistics(model: nn.Module) -> Iterator[None]:
    """Run a model in its mode, but leave the running statistics and their counters as they are.

    Use it for a forward pass on a mini-batch that the statistics have already counted: the second
    pass of sharpness-aware minimization, an extra loss on the same data, or the pass that
    checkpointing repeats. Without it, each of these moves the statistics once more. In train mode
    each norm goes on to normalize by the mini-batch.

    Parameters
    ----------
    model : torch.nn.Module
        All norms that keep running statistics rest: batch norms and their relatives in `bnlib.nn`,
        instance norms, and other modules with a buffer `running_mean`.

    Yields
    ------
    None

    Raises
    ------
    TypeError
        If `model` is no module.
    ValueError
        If a norm that keeps statistics is scripted (``torch.jit.script``), part of an exported
        graph, lazy and not yet run, or an instance with a ``forward`` of its own; nothing is paused
        then.

    Notes
    -----
    Within the context, each forward pass works on copies of the norm's buffers, so the buffers are
    never written, whatever is raised. Contexts can be nested. In train mode a batch renormalization
    reads its running statistics, and so sees the same ones in each pass.

    With checkpointing, give the context for the repetition:
    ``checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(),
    pause_statistics(block)))``.

    Examples
    --------
    >>> import torch
    >>> from bnlib.surgery import pause_statistics
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> with pause_statistics(net):
    ...     y = net(torch.randn(8, 3))
    >>> net[1].num_batches_tracked
    tensor(0)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    norms = [m for m in model.modules() if isinstance(getattr(m, "running_mean", None), Tensor)]
    for norm in norms:
        # `torch.export` keeps the buffers in bare modules, which nobody calls
        foreign = isinstance(norm, torch.jit.ScriptModule) or type(norm) is nn.Module
        if foreign or "forward" in vars(norm):
            name = next(name for name, module in model.named_modules() if module is norm)
            raise ValueError(
                f"{name or 'the model'} is scripted, exported, or has a forward of its own: pause "
                "the statistics of the model that it was made from"
            )
        if nn.parameter.is_lazy(norm.running_mean):
            raise ValueError("the model has lazy parameters: run it once on an input first")
    paused = []
    try:
        with _LOCK:
            for norm in norms:
                norm.__class__ = _paused(type(norm))
                paused.append(norm)
        yield
    finally:
        with _LOCK:
            for norm in paused:
                _go_on(norm)


@functools.cache
def _paused(cls: type) -> type:
    """Return a subclass whose forward is that of `cls` on a view of the module."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        parametrized = "paused_from" not in vars(type(self))  # since then
        view = object.__new__(type(self) if parametrized else cls)
        own = {k: dict(v) if type(v) is dict else v for k, v in vars(self).items()}
        own["_buffers"] = {k: v if v is None else v.clone() for k, v in self._buffers.items()}
        vars(view).update(own)
        return cls.forward(view, *args, **kwargs)

    def reduce(self: nn.Module, protocol: int) -> tuple[Any, ...]:
        view = object.__new__(cls)  # a copy is of the class from before: it is to go on
        vars(view).update(vars(self))
        function, *rest = view.__reduce_ex__(max(protocol, 2))
        return (
            _new if function is copyreg.__newobj__ else function,
            *rest,
        )  # pickle compares classes

    return type(
        cls.__name__,
        (cls,),
        {
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__reduce_ex__": reduce,
            "forward": forward,
            "paused_from": cls,
        },
    )


def _go_on(norm: nn.Module) -> None:
    """Give a norm its class back, or its subclass that one, if it was parametrized meanwhile."""
    cls = type(norm)
    if "paused_from" in vars(cls):
        norm.__class__ = cls.paused_from
    else:
        cls.__bases__ = (cls.__base__.paused_from,)


def _new(cls: type) -> nn.Module:
    return cls.__new__(cls)
