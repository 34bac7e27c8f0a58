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
from torch.nn.parameter import is_lazy
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
        does not count. They are computed in float32 if the input is no float64.
    positions : Tensor, (length,) or (height, width), ..., float64
        Means of the input over examples and channels; a single number without positions.
    is_output : bool
        Whether the very output of the norm, not changed in place, or a view of it is an output of
        the model.
    """

    batch: int
    uses_batch: bool
    values: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    channels_last: bool
    mean: Tensor
    var: Tensor
    positions: Tensor
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
    drops : bool
        Whether dropout left something out, or would have.
    examples : dict of str to list of Tensor
        Means of each example in each channel, (n, c), at the first call in each mini-batch, of the
        norm that was called first, and of the one that was called last.
    seen : dict of str to list
        What the `look` of `Case.look` returned, by name of the norm.
    """

    calls: dict[str, list[Call]] = field(default_factory=dict)
    outputs: list[list[Tensor]] = field(default_factory=list)
    failed: str = ""
    drops: bool = False
    examples: dict[str, list[Tensor]] = field(default_factory=dict)
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
def same_order(loader: object) -> Iterator[None]:
    """Put the states of the generators back that a data loader draws its order from."""
    sampler = getattr(loader, "sampler", None)
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    owners = (getattr(each, "generator", None) for each in (loader, sampler, inner))
    kept = [(g, g.get_state()) for g in owners if isinstance(g, torch.Generator)]
    try:
        yield
    finally:
        for generator, state in kept:
            generator.set_state(state)


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put modes, buffers, parameters' gradients and the random state back, whatever happens.

    Passes run on copies. This is for a `forward` that runs the model itself, not what it is given.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(b, b.detach().clone()) for b in model.buffers() if not is_lazy(b)]
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
    for name, module in model.named_modules():
        if _calls_a_module(vars(module).get("forward")):
            raise NotPossibleError(
                f"a copy of the model, but its {name}.forward was replaced by a function that "
                "holds a module, and a copy would run that one"
            )
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


def _calls_a_module(forward: Any) -> bool:
    """Whether a function holds a module, or a method of one, which copying does not reach."""
    if not inspect.isfunction(forward):
        return False
    try:
        held = inspect.getclosurevars(forward)
    except ValueError:  # a cell is empty yet
        return False
    values = (*held.nonlocals.values(), *held.globals.values())
    return any(isinstance(getattr(x, "__self__", x), nn.Module) for x in values)


def as_double(tree: Any) -> Any:
    """Return a module, or the tensors of a batch, in float64."""
    if isinstance(tree, nn.Module):
        return tree._apply(_double)
    return tree_map(lambda x: _double(x) if isinstance(x, Tensor) else x, tree)


def sizes(batch: Any) -> set[int]:
    """Return the lengths of the first axes of the tensors in a mini-batch."""
    return {x.shape[0] for x in tree_leaves(batch) if isinstance(x, Tensor) and x.dim()}


def first_examples(batch: Any, count: int) -> Any:
    """Return the first examples of a mini-batch, if all its tensors have as many."""
    if len(sizes(batch)) != 1 or max(sizes(batch)) <= count:
        return batch
    return tree_map(lambda x: x[:count] if isinstance(x, Tensor) and x.dim() else x, batch)


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout}
DROPOUTS.add(F.feature_alpha_dropout)


class _Dropout(TorchFunctionMode):
    """Watches dropout, that of modules and functions. If it is off, it gives its input.

    Its random numbers are drawn all the same.
    """

    def __init__(self, on: bool) -> None:
        super().__init__()
        self.on, self.drops = on, False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in DROPOUTS:
            return func(*args, **kwargs)
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        self.drops |= bool(given["training"] and given["p"])
        if self.on:
            return func(*args, **kwargs)
        func(**{**given, "inplace": False})
        return given["input"]


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
    watcher, mode = _Watcher(look), _Dropout(dropout)
    handles = watcher.attach(norms_of(scratch))
    try:
        with (
            same_random_state(),
            _uncompiled(),
            torch.set_grad_enabled(each is not None),
            mode,
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
    watcher.result.drops = mode.drops
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
            x = _input(args, kwargs)
            if x is None:
                return
            bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
            call, examples = _call(norm, self.batch, x, bound.get("mask"))
            earlier = self.result.calls.setdefault(norm.name, [])
            if not earlier or earlier[-1].batch != self.batch:
                self.result.examples.setdefault(norm.name, []).append(examples)
            earlier.append(call)
            self.last = norm.name, call

        def after(module: nn.Module, args: tuple, kwargs: dict, y: Tensor) -> None:
            x = _input(args, kwargs)
            if x is None or not isinstance(y, Tensor):
                return
            number = len(self.result.calls[norm.name]) - 1
            self._given.append((norm.name, number, weakref.ref(y), _version(y)))
            if self.look:
                seen = self.look(norm, x, y.detach())
                self.result.seen.setdefault(norm.name, []).append(seen)

        return before, after

    def end(self, outputs: list[Tensor]) -> None:
        """Keep the outputs of a mini-batch, and mark the norms that gave them."""
        for name, number, given, version in self._given:
            y = given()
            if y is not None and _version(y) == version and any(_holds(y, out) for out in outputs):
                calls = self.result.calls[name]
                calls[number] = Call(**{**vars(calls[number]), "is_output": True})
        self._given.clear()
        names = [*self.result.calls]
        for name in names[1:-1]:
            self.result.examples.pop(name, None)
        self.result.outputs.append([output.detach() for output in outputs])


def _holds(y: Tensor, output: Tensor) -> bool:
    """Whether an output is a tensor, or a view of it."""
    return output is y or output._base is y


def _input(args: tuple, kwargs: dict) -> Tensor | None:
    """Return the input of a norm, if it is a tensor with examples and channels."""
    x = next(iter((*args, *kwargs.values())), None)
    return x.detach() if isinstance(x, Tensor) and x.dim() > 1 else None


def _call(norm: Norm, batch: int, x: Tensor, mask: Tensor | None) -> tuple[Call, Tensor]:
    """Return a call, and the means of the examples, (n, c)."""
    rows = x.unsqueeze(0) if x.dim() == _unbatched_dim(norm) else x
    rows = rows if rows.dtype == torch.float64 else rows.float()
    examples = rows.flatten(2).mean(2) if rows.dim() > 2 else rows.clone()
    counted = rows.movedim(1, -1)[mask].T.unsqueeze(0) if mask is not None else rows
    mean, var = _moments(counted)
    uses = norm.family != "frozen" and (norm.module.training or norm.mean is None)
    call = Call(
        batch,
        uses,
        values_per_mean(norm.module, x, mask),
        tuple(x.shape),
        x.dtype,
        _is_channels_last(x),
        mean,
        var,
        rows.mean((0, 1)).double(),
    )
    return call, examples


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel, (c,).

    One value is subtracted first, so neither a mean far from zero nor a constant channel suffers
    from the rounding of float32.
    """
    if not x.numel():
        nothing = torch.full((x.shape[1],), torch.nan, dtype=torch.float64)
        return nothing, nothing
    axes = [0, *range(2, x.dim())]
    first = (slice(1), slice(None), *[slice(1)] * (x.dim() - 2))
    x = x - (shift := x[first])
    mean = x.mean(axes, keepdim=True)
    var = x.sub_(mean).square_().mean(axes)
    return (shift.double() + mean.double()).flatten(), var.double()


def _unbatched_dim(norm: Norm) -> int:
    """Return the number of axes at which an instance norm takes its input for one example."""
    return norm.module._get_no_batch_dim() if isinstance(norm.module, _InstanceNorm) else 0


def _is_channels_last(x: Tensor) -> bool:
    """Whether the channels of images or volumes are side by side; both may hold, and then not."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    wanted = formats.get(x.dim())
    return bool(wanted and x.is_contiguous(memory_format=wanted) and not x.is_contiguous())
