"""What happened in a watched training loop, norm by norm and step by step."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bnlib.doctor.case import Case
from bnlib.doctor.norms import norms_of
from bnlib.doctor.observe import NotPossibleError, untouched
from bnlib.doctor.registry import chosen
from bnlib.doctor.report import Report, report_of

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
        mode. If its parameters begin to learn at the same time, it was thawed on purpose, and they
        do not count.
    returns : int
        How often it came back to train mode so.
    with_its_part : bool
        Whether the module around it was in eval mode, too, and not the norm alone.
    values : Counter of int
        Calls in train mode by values per mean.
    last_values : int or None
        Values per mean of the last of them.
    per_step : Counter of int
        Optimizer steps by calls in train mode, with gradients, since the step before.
    updates : tuple of int or None
        ``num_batches_tracked`` before and after.
    before, after : dict of str to Tensor
        Its running statistics, weight and bias before and after, copied. Where it has no parameter,
        ``nearby`` is the last one in front of it.
    nonfinite_call : int or None
        The call in train mode before which the running statistics were first seen to be NaN or
        infinite; they are looked at before every 50th call, and at the end.
    """

    modes: Counter[str] = field(default_factory=Counter)
    moved_without_gradient: int = 0
    in_backward: int = 0
    again: int = 0
    thawed: int = 0
    returns: int = 0
    with_its_part: bool = False
    values: Counter[int] = field(default_factory=Counter)
    last_values: int | None = None
    per_step: Counter[int] = field(default_factory=Counter)
    updates: tuple[int | None, int | None] = (None, None)
    before: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)
    nonfinite_call: int | None = None
    _since_step: int = 0
    _held: bool = False
    _was_fixed: bool = False

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
        """Whether the scale or the shift has changed, or the weight nearby if there are none."""
        return any(
            key in self.after and not torch.equal(self.before[key], self.after[key])
            for key in ("weight", "bias", "nearby")
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
        in train mode without gradients, ``e`` one in eval mode, ``b`` backward passes, ``z`` that
        the gradients of the last one were cleared before the next one came, ``s`` the step.
        ``fbs`` is a plain step, ``fbfbs`` accumulates gradients, ``ffbs`` shows the model two
        batches for one loss. A loop may call modules within the model in its place, as Lightning
        does: those called one after another are one pass, and the same one again is the next.
    rest : str
        What happened after the last step.
    passes : int
        Forward passes of the model, or of its parts: 0 if the loop calls neither.
    passes_without_gradients : int
        Those of them in train mode with gradients disabled, from beginning to end.
    in_train_mode, in_eval_mode : int
        Steps whose forward passes with gradients were in train mode; steps after these where all
        were in eval mode of the whole model.
    longest_in_eval_mode : int
        Most of the latter in a row.
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
        self.in_train_mode = self.in_eval_mode = self.longest_in_eval_mode = 0
        self._eval_steps = 0
        self.longest: dict[str, int] = {}
        self._run = ("", 0)
        self._modes: set[bool] = set()
        self._inside: nn.Module | None = None
        self._parts: set[nn.Module] = set()
        self._kinds: set[str] = set()
        self._gradients: dict[int, weakref.ref[Tensor]] = {}
        self._adds = False
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

    def require(self, *, steps: bool = False) -> None:
        """Skip a rule if no norm was called, or if it counts by steps and there was none.

        Parameters
        ----------
        steps : bool
            Whether it does.

        Raises
        ------
        NotPossibleError
            Which skips it, and says why.
        """
        if self.norms and not any(seen.modes for seen in self.norms.values()):
            raise NotPossibleError("a call of a norm in the watched loop")
        if steps and not self.steps:
            raise NotPossibleError("a step of the watched optimizer")

    def _backward(self, parameter: Tensor) -> None:
        if self._run[0] != "b":  # once for all parameters
            self._adds = False
            self._event("b")
        held, gradient = self._gradients.get(id(parameter)), parameter.grad
        if gradient is None:
            return  # taken by an optimizer within the backward pass
        if held is not None and held() is gradient:
            self._adds = True
        else:
            self._gradients[id(parameter)] = weakref.ref(gradient)

    def _enter(self, part: nn.Module, _: nn.Module, args: tuple, kwargs: dict) -> None:
        if self._inside is not None or torch._C._current_graph_task_id() != -1:
            return  # a call within a pass, or a backward pass that repeats one
        self._inside = part
        training, gradients = self.model.training, torch.is_grad_enabled()
        if gradients:
            self._modes.add(training)
        kind = "e" if not (training and part.training) else "f" if gradients else "n"
        is_whole = part is self.model or self.model in self._parts
        if not self._parts or is_whole or part in self._parts:
            self._pass(kind, [*args, *kwargs.values()])
            self._parts, self._kinds = {part}, {kind}
            return
        if kind not in self._kinds:  # the pass goes on, but otherwise
            self.passes_without_gradients -= self._kinds == {"n"}
            self._event(kind)
        self._parts.add(part)
        self._kinds.add(kind)

    def _leave(self, part: nn.Module, *_: Any) -> None:
        if self._inside is part:
            self._inside = None

    def _pass(self, kind: str, inputs: list[Any]) -> None:
        self._event(kind)
        self.passes += 1
        self.passes_without_gradients += kind == "n"
        x = next((x for x in tree_leaves(inputs) if isinstance(x, Tensor)), None)
        self._again = self.optimizer is not None and x is not None and self._shown() is x
        if kind == "f":
            self._shown = (lambda: None) if x is None else weakref.ref(x)

    def _event(self, kind: str) -> None:
        last, length = self._run
        if len(self.rest) < LONGEST:
            before, b, after = self.rest[:-1].rpartition("b")
            if b and last == "b" and not self._adds:
                self.rest = f"{before}bz{after}b"
            self.rest += kind
        if kind in "bs":  # a backward pass shows that the pass before trains some part
            self.passes_without_gradients -= kind == "b" and self._kinds == {"n"}
            self._parts, self._kinds = set(), set()
        self._run = (kind, length + 1 if kind == last else 1)
        self.longest[kind] = max(self.longest.get(kind, 0), self._run[1])

    def _step(self, *_: Any) -> None:
        self._event("s")
        self.steps += 1
        self.patterns[self.rest] += 1
        if "b" in self.rest:
            self.in_train_mode += True in self._modes
            is_eval = self._modes == {False} and self.in_train_mode > 0
            self.in_eval_mode += is_eval
            self._eval_steps = self._eval_steps + 1 if is_eval else 0
            self.longest_in_eval_mode = max(self.longest_in_eval_mode, self._eval_steps)
        self.rest, self._shown, self._modes = "", lambda: None, set()
        for seen in self.norms.values():
            seen.per_step[seen._since_step] += 1
            seen._since_step = 0

    def _other_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer is not self.optimizer:  # the weights are others now
            self._shown = lambda: None
