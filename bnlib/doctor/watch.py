"""Watch a training loop: what happens to the norms, step by step, by cheap hooks."""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bnlib.doctor.case import Case
from bnlib.doctor.examine import unwrapped
from bnlib.doctor.norms import Norm, norms_of, values_per_mean
from bnlib.doctor.observe import untouched
from bnlib.doctor.registry import chosen
from bnlib.doctor.report import Report, report_of
from bnlib.nn._classes import is_paused

EVERY = 50
"""Calls of a norm between two looks at its running statistics: each waits for the device."""

LONGEST = 64
"""Events of one step that are kept; a loop that makes more in a step repeats itself."""


@dataclass
class Watched:
    """What happened to one norm.

    Attributes
    ----------
    modes : Counter of str
        Calls in ``train`` mode (it normalized by its input) and in ``eval`` mode.
    moved_without_gradient : int
        Calls that moved the running statistics while gradients were disabled.
    in_backward : int
        Calls within a backward pass, as checkpointing makes them.
    again : int
        Calls in train mode, with gradients, for the same tensor as the forward pass of the model
        before, with no step between. A watched optimizer is needed.
    thawed : int
        Calls in train mode after the norm was in eval mode, with gradients, within a model in train
        mode.
    values : Counter of int
        Calls in train mode by values per mean.
    last_values : int or None
        Values per mean of the last of them.
    per_step : Counter of int
        Optimizer steps by calls in train mode, with gradients, since the step before.
    updates : tuple of int or None
        ``num_batches_tracked`` before and after.
    before, after : dict of str to Tensor
        Its running statistics, weight and bias before and after, copied.
    nonfinite_call : int or None
        The call in train mode before which the running statistics were first seen to be NaN or
        infinite; they are looked at before every 50th call, and at the end.
    """

    modes: Counter[str] = field(default_factory=Counter)
    moved_without_gradient: int = 0
    in_backward: int = 0
    again: int = 0
    thawed: int = 0
    values: Counter[int] = field(default_factory=Counter)
    last_values: int | None = None
    per_step: Counter[int] = field(default_factory=Counter)
    updates: tuple[int | None, int | None] = (None, None)
    before: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)
    nonfinite_call: int | None = None
    _since_step: int = 0
    _held: bool = False

    @property
    def repeated(self) -> int:
        """Updates of the running statistics beyond one per forward pass."""
        before, after = self.updates
        if "running_mean" not in self.before:
            return 0
        if before is None or after is None:
            return self.in_backward
        return min(self.in_backward, after - before - self.modes["train"] + self.in_backward)

    @property
    def learned(self) -> bool:
        """Whether the scale or the shift has changed."""
        return any(
            key in self.after and not torch.equal(self.before[key], self.after[key])
            for key in ("weight", "bias")
            if key in self.before
        )


class Record:
    """What `watch` wrote down of a loop.

    Attributes
    ----------
    norms : dict of str to Watched
        By name.
    steps : int
        Optimizer steps; 0 if `watch` was not given the optimizer.
    patterns : Counter of str
        Steps by what happened in them: ``f`` a forward pass of the model in train mode, ``n`` one
        in train mode without gradients, ``e`` one in eval mode, ``b`` backward passes, ``s`` the
        step. ``fbs`` is a plain step, ``fbfbs`` accumulates gradients, ``ffbs`` shows the model
        two batches for one loss.
    rest : str
        What happened after the last step.
    passes : int
        Forward passes of the model itself: 0 if the loop only calls modules within it.
    passes_without_gradients : int
        Those of them in train mode with gradients disabled.
    longest : dict of str to int
        Most events of a kind in a row; a step or a backward pass between them ends the row.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        self.model, self.optimizer = model, optimizer
        self.norms: dict[str, Watched] = {name: Watched() for name in norms_of(model)}
        self.steps = 0
        self.patterns: Counter[str] = Counter()
        self.rest = ""
        self.passes = self.passes_without_gradients = 0
        self.longest: dict[str, int] = {}
        self._run = ("", 0)
        self._shown: Callable[[], Tensor | None] = lambda: None
        self._again = False

    def report(
        self, *, select: Collection[str] | None = None, ignore: Collection[str] = ()
    ) -> Report:
        """Check the rules that need no pass: structure, state, optimizer and what was watched.

        Parameters
        ----------
        select, ignore : collection of str, optional
            Names of rules, as for `examine`.

        Returns
        -------
        Report
        """
        rules = chosen(select, ignore)
        with untouched(self.model):
            return report_of(Case(self.model, optimizer=self.optimizer, record=self), rules)

    def _backward(self, *_: Any) -> None:
        if self._run[0] != "b":  # once for all parameters
            self._event("b")

    def _pass(self, kind: str, inputs: list[Any]) -> None:
        self._event(kind)
        self.passes += 1
        x = next((x for x in tree_leaves(inputs) if isinstance(x, Tensor)), None)
        self._again = self.optimizer is not None and x is not None and self._shown() is x
        if kind == "f":
            self._shown = (lambda: None) if x is None else weakref.ref(x)

    def _event(self, kind: str) -> None:
        if len(self.rest) < LONGEST:
            self.rest += kind
        self.passes_without_gradients += kind == "n"
        last, length = self._run
        self._run = (kind, length + 1 if kind == last else 1)
        self.longest[kind] = max(self.longest.get(kind, 0), self._run[1])

    def _step(self, *_: Any) -> None:
        self._event("s")
        self.steps += 1
        self.patterns[self.rest] += 1
        self.rest, self._shown = "", lambda: None
        for seen in self.norms.values():
            seen.per_step[seen._since_step] += 1
            seen._since_step = 0


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
        If `model` is no module or `optimizer` is no optimizer.

    Notes
    -----
    The hooks read shapes and modes, and look at values before every 50th call only. They are gone
    when the context ends, whatever is raised. Compiled models do not call new hooks: watch the
    model before ``torch.compile``.

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
    record, norms = Record(model, optimizer), norms_of(model)
    for name, norm in norms.items():
        record.norms[name].before = _copied(norm)
        around = model.get_submodule(name.rpartition(".")[0])  # one in eval mode may just be loaded
        record.norms[name]._held = around.training and norm.mode == "eval"
    handles = [model.register_forward_pre_hook(_root_hook(record), with_kwargs=True)]
    try:
        for norm in norms.values():
            if not isinstance(norm.module, torch.jit.ScriptModule):
                hook = _norm_hook(norm, record, model)
                handles.append(norm.module.register_forward_pre_hook(hook, with_kwargs=True))
        if optimizer is not None:
            handles.append(optimizer.register_step_post_hook(record._step))
        learning = [p for p in model.parameters() if p.requires_grad and p.is_leaf]
        handles += [p.register_post_accumulate_grad_hook(record._backward) for p in learning]
        yield record
    finally:
        for handle in handles:
            handle.remove()
        for name, norm in norms_of(model).items():
            if seen := record.norms.get(name):
                seen.after = _copied(norm)
                seen.updates = _count(seen.before), _count(seen.after)
                if seen.nonfinite_call is None and not _finite(norm):
                    seen.nonfinite_call = seen.modes["train"]


def _copied(norm: Norm) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in norm.tensors.items()}


def _count(tensors: dict[str, Tensor]) -> int | None:
    count = tensors.get("num_batches_tracked")
    return None if count is None else int(count)


def _finite(norm: Norm) -> bool:
    return all(bool(x.isfinite().all()) for x in (norm.mean, norm.var) if x is not None)


def _root_hook(record: Record) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
        if torch._C._current_graph_task_id() != -1:
            return  # a backward pass that repeats it
        kind = "e" if not module.training else "f" if torch.is_grad_enabled() else "n"
        record._pass(kind, [*args, *kwargs.values()])

    return hook


def _norm_hook(norm: Norm, record: Record, model: nn.Module) -> Callable[..., None]:
    always = norm.family != "frozen" and norm.mean is None
    seen = record.norms[norm.name]

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
        if norm.family == "frozen" or not (module.training or always):
            seen.modes["eval"] += 1
            seen._held |= model.training and torch.is_grad_enabled() and not norm.frozen
            return
        seen.thawed += seen._held
        x = args[0] if args else next(iter(kwargs.values()))
        mask = kwargs.get("mask")
        if mask is None:  # to count a mask would wait for the device
            seen.last_values = values_per_mean(module, x)
            seen.values[seen.last_values] += 1
        updates = not always and module.training and not is_paused(module)
        if torch._C._current_graph_task_id() != -1:
            seen.in_backward += 1
        elif torch.is_grad_enabled():
            seen._since_step += 1
            seen.again += updates and record._again
        if not torch.is_grad_enabled() and updates:  # with a momentum of None it is update_bn
            seen.moved_without_gradient += bool(getattr(module, "momentum", None))
        if seen.modes["train"] % EVERY == 0 and seen.nonfinite_call is None and not _finite(norm):
            seen.nonfinite_call = seen.modes["train"]
        seen.modes["train"] += 1

    return hook
