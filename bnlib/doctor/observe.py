"""Passes through a copy of a model, and what its norms see and give in them."""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from bnlib.doctor.norms import Norm, norms_of, values_per_mean
from bnlib.surgery._collect import _uncompiled
from bnlib.surgery._survey import copied

Show = Callable[[nn.Module, Any], Any]
Look = Callable[[Norm, Tensor, Tensor], Any]


class NotPossibleError(Exception):
    """A pass that a rule needs cannot be made; the rule is skipped, and the report says why."""


@dataclass(frozen=True)
class Call:
    """One call of a norm.

    Attributes
    ----------
    batch : int
        Number of the mini-batch.
    uses_batch : bool
        Whether the norm normalized by its input.
    values : int
        Over how many values of the input each mean goes (or would go, in eval mode).
    shape, dtype, channels_last
        Of the input.
    mean, var : Tensor, (c,), float64
        Of the input, over all axes but the second; the variance is biased. What a mask leaves out
        does not count.
    is_output : bool
        Whether the very output of the norm, not changed in place, is an output of the model.
    """

    batch: int
    uses_batch: bool
    values: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    channels_last: bool
    mean: Tensor
    var: Tensor
    is_output: bool = False


@dataclass
class Pass:
    """What happened in a pass over the mini-batches.

    Attributes
    ----------
    calls : dict of str to list of Call
        By name of the norm, in the order of first calls; a norm that was not called is not in it.
    outputs : list of list of Tensor
        The floating-point outputs of the model, of each mini-batch.
    failed : str
        Why the pass ended early: the name of a norm that had a single value per mean. Else "".
    seen : dict of str to list
        What the `look` of `Case.look` returned, by name of the norm.
    """

    calls: dict[str, list[Call]] = field(default_factory=dict)
    outputs: list[list[Tensor]] = field(default_factory=list)
    failed: str = ""
    seen: dict[str, list[Any]] = field(default_factory=dict)


@contextlib.contextmanager
def same_random_state() -> Iterator[None]:
    """Seed torch, NumPy and Python within, and put their states back whatever happens."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - models may use it
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put modes, buffers, parameters' gradients and the random state back, whatever happens.

    Passes run on copies. This is for a `forward` that runs the model itself, not what it is given.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    gradients = [
        (p, p.grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()
    ]
    try:
        with same_random_state():
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:  # a batch norm does not count its versions up
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
            for parameter, gradient, kept in gradients:
                parameter.grad = gradient
                if gradient is not None and kept is not None and not torch.equal(gradient, kept):
                    gradient.copy_(kept)


def _version(x: Tensor) -> int:
    return 0 if x.is_inference() else x._version


def prepared(model: nn.Module, *, training: bool, double: bool) -> nn.Module:
    """Return a copy of a model for one pass.

    In train mode a model that is in train mode keeps the mode of each of its modules, since what
    is in eval mode there may be so on purpose.
    """
    try:
        scratch = copied(model)
    except Exception as error:  # whatever a module's own way of copying raises
        raise NotPossibleError(f"a copy of the model, which cannot be had: {error}") from error
    if not training:
        scratch.eval()
    elif not scratch.training:
        scratch.train()
    for parameter in scratch.parameters():
        parameter.grad = None
    return as_double(scratch) if double else scratch


def as_double(tree: Any) -> Any:
    """Return a module, or the tensors of a batch, in float64."""
    if isinstance(tree, nn.Module):
        return tree._apply(_double)
    return tree_map(lambda x: _double(x) if isinstance(x, Tensor) else x, tree)


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout}
DROPOUTS.add(F.feature_alpha_dropout)


class _WithoutDropout(TorchFunctionMode):
    """Dropout gives its input, that of modules and functions; its random numbers are drawn."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in DROPOUTS:
            return func(*args, **kwargs)
        bound = inspect.signature(func).bind(*args, **kwargs).arguments
        func(**{**bound, "inplace": False})
        return bound["input"]


def run(
    scratch: nn.Module,
    batches: list[Any],
    show: Show,
    look: Look | None = None,
    each: Callable[[Any, Any], None] | None = None,
    *,
    dropout: bool = True,
) -> Pass:
    """Show a copy of a model the mini-batches, and write down what its norms see.

    `each` gets output and batch of each call, for a backward pass; without it no gradients are
    made.
    """
    watcher = _Watcher(look)
    handles = watcher.attach(norms_of(scratch))
    try:
        with (
            same_random_state(),
            _uncompiled(),
            torch.set_grad_enabled(each is not None),
            contextlib.nullcontext() if dropout else _WithoutDropout(),
        ):
            for watcher.batch, batch in enumerate(batches):
                output = show(scratch, copy.deepcopy(batch))
                watcher.end(tensors_of(output))
                if each:
                    each(output, batch)
    except ValueError:
        if watcher.last is None or watcher.last[1].values != 1 or not watcher.last[1].uses_batch:
            raise
        watcher.result.failed = watcher.last[0]
    finally:
        for handle in handles:
            handle.remove()
    return watcher.result


def tensors_of(output: Any) -> list[Tensor]:
    """Return the floating-point tensors of an output, whatever holds them."""
    leaves = tree_leaves(output)
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]


class _Watcher:
    """Hooks that write down the calls of norms."""

    def __init__(self, look: Look | None) -> None:
        self.look, self.batch, self.result = look, 0, Pass()
        self.last: tuple[str, Call] | None = None
        self._given: list[tuple[str, int, weakref.ref[Tensor], int]] = []

    def attach(self, norms: dict[str, Norm]) -> list[torch.utils.hooks.RemovableHandle]:
        handles = []
        for norm in norms.values():
            module = norm.module
            if isinstance(module, torch.jit.ScriptModule):
                continue  # it takes no hooks
            before, after = self._hooks(norm)
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after, with_kwargs=True))
        return handles

    def _hooks(self, norm: Norm) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
            x = next(iter(bound.values()))
            call = _call(norm, self.batch, x.detach(), bound.get("mask"))
            self.result.calls.setdefault(norm.name, []).append(call)
            self.last = norm.name, call

        def after(module: nn.Module, args: tuple, kwargs: dict, y: Tensor) -> None:
            if not isinstance(y, Tensor):
                return
            number = len(self.result.calls[norm.name]) - 1
            self._given.append((norm.name, number, weakref.ref(y), _version(y)))
            if self.look:
                x = args[0] if args else next(iter(kwargs.values()))
                seen = self.look(norm, x.detach(), y.detach())
                self.result.seen.setdefault(norm.name, []).append(seen)

        return before, after

    def end(self, outputs: list[Tensor]) -> None:
        """Keep the outputs of a mini-batch, and mark the norms that gave them."""
        for name, number, given, version in self._given:
            y = given()
            if y is not None and _version(y) == version and any(y is out for out in outputs):
                calls = self.result.calls[name]
                calls[number] = Call(**{**vars(calls[number]), "is_output": True})
        self._given.clear()
        self.result.outputs.append([output.detach() for output in outputs])


def _call(norm: Norm, batch: int, x: Tensor, mask: Tensor | None) -> Call:
    rows = x.unsqueeze(0) if x.dim() == _unbatched_dim(norm) else x
    values = rows.movedim(1, -1)[mask].T if mask is not None else rows.transpose(0, 1).flatten(1)
    values = values.double()
    uses = norm.family != "frozen" and (norm.module.training or norm.mean is None)
    return Call(
        batch,
        uses,
        values_per_mean(norm.module, x, mask),
        tuple(x.shape),
        x.dtype,
        _is_channels_last(x),
        values.mean(1),
        values.var(1, correction=0),
    )


def _unbatched_dim(norm: Norm) -> int:
    """Return the number of axes at which an instance norm takes its input for one example."""
    return norm.module._get_no_batch_dim() if isinstance(norm.module, _InstanceNorm) else 0


def _is_channels_last(x: Tensor) -> bool:
    """Whether the channels of images or volumes are side by side; both may hold, and then not."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    wanted = formats.get(x.dim())
    return bool(wanted and x.is_contiguous(memory_format=wanted) and not x.is_contiguous())
