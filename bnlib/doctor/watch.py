"""Watch a training loop: what happens to the norms, step by step, by cheap hooks."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from bnlib.doctor.examine import unwrapped
from bnlib.doctor.norms import Norm, norms_of, parameters_nearby, values_per_mean
from bnlib.doctor.record import Record, Watched
from bnlib.nn._classes import is_paused

EVERY = 50
"""Calls of a norm between two looks at its running statistics: each waits for the device."""


@contextlib.contextmanager
def watch(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Iterator[Record]:
    """Watch what a loop does to the norms of a model.

    Parameters
    ----------
    model : torch.nn.Module
        The model that the loop runs.
    optimizer : torch.optim.Optimizer, optional
        Its steps divide the loop; without it, rules that count by steps find nothing.

    Yields
    ------
    Record
        Complete when the context ends; ``record.report()`` checks the rules.

    Raises
    ------
    TypeError
        If `model` is no module, or a scripted one, or `optimizer` is no optimizer.
    ValueError
        If lazy modules in it have no parameters yet.

    Notes
    -----
    The hooks read shapes and modes, and look at values before every 50th call only. They are gone
    when the context ends, whatever is raised, and do nothing in copies of the model. Compiled
    models do not call new hooks: watch the model before ``torch.compile``.

    Examples
    --------
    >>> import torch
    >>> from bnlib.doctor import watch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> with watch(net, optimizer) as record:
    ...     for x in torch.randn(5, 8, 3):
    ...         optimizer.zero_grad()
    ...         net(x).square().mean().backward()
    ...         optimizer.step()
    >>> dict(record.patterns), record.norms["1"].last_values
    ({'fbs': 5}, 8)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer: expected a torch.optim.Optimizer, got {optimizer!r}")
    model = unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("model: watch it before torch.jit.script, after which it takes no hooks")
    if any(nn.parameter.is_lazy(x) for x in (*model.parameters(), *model.buffers())):
        raise ValueError("model: run it once before, because it has lazy modules")
    record, norms, near = Record(model, optimizer), norms_of(model), parameters_nearby(model)
    modules = dict(model.named_modules())
    parents = {name: modules[name.rpartition(".")[0]] for name in norms}
    holders = [m for m in modules.values() if next(m.parameters(recurse=False), None) is not None]
    mixed = model.training and any(m.training for m in holders)  # a loaded model is in eval mode
    for name, norm in norms.items():
        seen = record.norms[name]
        seen.before = _copied(norm, near)
        seen._held = mixed and norm.mode == "eval"
        seen._was_fixed, seen.with_its_part = _is_fixed(norm), not parents[name].training
    handles = []
    try:
        for part in _callable_parts(model):
            enter = _Hook(functools.partial(record._enter, part))
            handles.append(part.register_forward_pre_hook(enter, with_kwargs=True))
            leave = _Hook(functools.partial(record._leave, part))
            handles.append(part.register_forward_hook(leave, always_call=True))
        for name, norm in norms.items():
            if not isinstance(norm.module, torch.jit.ScriptModule):
                hook = _Hook(_norm_hook(norm, record, parents[name]))
                handles.append(norm.module.register_forward_pre_hook(hook, with_kwargs=True))
        if optimizer is not None:
            handles.append(optimizer.register_step_post_hook(record._step))
            handles.append(register_optimizer_step_post_hook(record._other_step))
        learning = [p for p in model.parameters() if p.requires_grad and p.is_leaf]
        handles += [p.register_post_accumulate_grad_hook(record._backward) for p in learning]
        yield record
    finally:
        for handle in handles:
            handle.remove()
        for name, norm in norms_of(model).items():
            if name in record.norms:
                seen = record.norms[name]
                seen.after = _copied(norm, near)
                seen.updates = _count(seen.before), _count(seen.after)
                if seen.nonfinite_call is None and not _finite(norm):
                    seen.nonfinite_call = seen.modes["train"]


class _Hook:
    """A hook that a copy of its module does not take along: there it does nothing."""

    def __init__(self, call: Callable[..., None]) -> None:
        self.call = call

    def __call__(self, *given: Any) -> None:
        if not torch.compiler.is_exporting():
            self.call(*given)

    def __reduce__(self) -> tuple[Any, ...]:  # for copies and for pickles, read without bnlib, too
        return getattr, (contextlib.nullcontext(), "__exit__")


def _callable_parts(model: nn.Module) -> list[nn.Module]:
    """Return the model, and the modules in it that hold norms and can be called in its place."""
    # scripted modules take no hooks, and lists cannot be called
    able = (m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule))
    called = (m for m in able if type(m).forward is not nn.Module.forward)
    return [model, *(m for m in called if m is not model and norms_of(m))]


def _copied(norm: Norm, near: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    tensors = dict(norm.tensors)
    if norm.name in near and not tensors.keys() & {"weight", "bias"}:
        tensors["nearby"] = near[norm.name]
    return {key: value.detach().clone() for key, value in tensors.items()}


def _is_fixed(norm: Norm) -> bool:
    return not any(p.requires_grad for p in norm.module.parameters())


def _count(tensors: dict[str, Tensor]) -> int | None:
    count = tensors.get("num_batches_tracked")
    return None if count is None else int(count)


def _finite(norm: Norm) -> bool:
    return all(bool(x.isfinite().all()) for x in (norm.mean, norm.var) if x is not None)


def _norm_hook(norm: Norm, record: Record, around: nn.Module) -> Callable[..., None]:
    always = norm.family != "frozen" and norm.mean is None
    seen, model = record.norms[norm.name], record.model

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
        if norm.family == "frozen" or not (module.training or always):
            seen.modes["eval"] += 1
            if model.training and torch.is_grad_enabled() and not norm.frozen:
                seen._held, seen.with_its_part = True, not around.training
                seen._was_fixed = _is_fixed(norm)
            return
        if seen._held:
            _thaw(norm, seen)
        seen.thawed += seen.returns > 0
        x = args[0] if args else next(iter(kwargs.values()), None)
        if kwargs.get("mask") is None and isinstance(x, Tensor) and x.dim() > 1:
            seen.last_values = values_per_mean(module, x)  # to count a mask waits for the device
            seen.values[seen.last_values] += 1
        updates = not always and module.training and not is_paused(module)
        if torch._C._current_graph_task_id() != -1:
            seen.in_backward += 1
        elif torch.is_grad_enabled():
            seen._since_step += 1
            seen.again += updates and record._again
        elif updates and hasattr(module, "momentum"):
            recomputes = module.momentum in (None, 1) and module.momentum != norm.momentum
            seen.moved_without_gradient += bool(module.momentum != 0) and not recomputes
        if seen.modes["train"] % EVERY == 0 and seen.nonfinite_call is None and not _finite(norm):
            seen.nonfinite_call = seen.modes["train"]
        seen.modes["train"] += 1

    return hook


def _thaw(norm: Norm, seen: Watched) -> None:
    seen._held = False
    on_purpose = seen._was_fixed and not _is_fixed(norm)
    seen.returns += not on_purpose
