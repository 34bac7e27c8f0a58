"""What rules see of a model: its structure, its state, and passes that are made when needed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_map

from bnlib.doctor import observe
from bnlib.doctor.finding import place
from bnlib.doctor.norms import Norm, norms_of, norms_of_state
from bnlib.doctor.observe import Look, NotPossibleError, Pass, Show
from bnlib.doctor.statistics import in_every_batch, pooled
from bnlib.surgery._batch import show_batch

if TYPE_CHECKING:
    from bnlib.doctor.record import Record

NEEDS = {
    "structure": "a model (a state dict is not enough)",
    "state": "a model or a state dict",
    "forward": "mini-batches (batches=...)",
    "backward": "mini-batches (batches=...)",
    "optimizer": "the optimizer (optimizer=...)",
    "watch": "a watched loop (with watch(model, optimizer) as record)",
}
"""What a rule may need, and how a reader gives it: the report says "Not checked without ..."."""


def either(need: str) -> list[str]:
    """Return the alternatives of an entry of a rule's NEEDS, such as ``forward or watch``."""
    return need.split(" or ")


def needed(need: str) -> str:
    """Say what an entry of a rule's NEEDS asks for."""
    return " or ".join(NEEDS[each] for each in either(need))


FEW = 9
"""Examples that are enough for what does not depend on how many there are: with as many values the
variance of a mini-batch is known to a half."""


class _NoBackwardError(RuntimeError):
    """Torch refuses a backward pass, as through a graph that a model has kept."""


@dataclass(frozen=True)
class Gradients:
    """What a backward pass left, on the first examples.

    Attributes
    ----------
    parameters : dict of str to Tensor
        Gradient of each parameter that got one, by its name in the model.
    arriving : dict of str to float
        Sum of the absolute gradients that arrived at the output of a module that holds parameters
        itself, by its name: the gradients of its bias are sums over parts of these.
    eps : float
        The rounding unit of what it was computed in.
    """

    parameters: dict[str, Tensor]
    arriving: dict[str, float]
    eps: float


class Case:
    """A model with what is known of it.

    Attributes
    ----------
    state : mapping of str to Tensor
        Its state dict.
    norms : dict of str to Norm
        The norms that keep running statistics, could keep them, or once did.
    batches : list
        The first mini-batches, as the loader gave them; empty if there are none.
    last_batch : tuple of int or None
        Examples in the last mini-batch of the loader, and in the others.
    record : Record or None
        Of a watched loop.
    has : set of str
        What of `NEEDS` there is.
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, Tensor],
        batches: Iterable[Any] = (),
        *,
        show: Show | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        record: Record | None = None,
        last_batch: tuple[int, int] | None = None,
    ) -> None:
        is_module = isinstance(model, nn.Module)
        self._model = model if isinstance(model, nn.Module) else None
        self.state = model.state_dict() if isinstance(model, nn.Module) else model
        self.norms: dict[str, Norm] = (
            norms_of(model) if isinstance(model, nn.Module) else norms_of_state(model)
        )
        self.batches, self.last_batch = list(batches), last_batch
        self._optimizer, self.record = optimizer, record
        self._show, self._loss = show, loss
        self._passes: dict[tuple, Pass] = {}
        self.has = {"state"} | ({"structure"} if is_module else set())
        self.has |= {"forward", "backward"} if self.batches else set()
        self.has |= {"optimizer"} if optimizer is not None else set()
        self.has |= {"watch"} if record is not None else set()

    @property
    def model(self) -> nn.Module:
        """The model itself, not to be changed."""
        if self._model is None:
            raise NotPossibleError(NEEDS["structure"])
        return self._model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the training, not to be changed."""
        if self._optimizer is None:
            raise NotPossibleError(NEEDS["optimizer"])
        return self._optimizer

    def forward(self, *, training: bool, dropout: bool = True) -> Pass:
        """Return what happened in a forward pass over `batches`, made on a copy, and kept.

        In train mode the norms in eval mode of a model in train mode stay so. Raises
        NotPossibleError, which skips the rule, if a norm with one value per mean ended it.
        """
        result = self.attempt(training=training, dropout=dropout)
        if result.failed:
            raise NotPossibleError(
                "a whole forward pass in train mode, where "
                f"{place((result.failed,))} has one value per mean"
            )
        return result

    def attempt(self, *, training: bool, dropout: bool = True) -> Pass:
        """Return a pass as `forward` does, also one that a norm ended early.

        A pass without dropout is the one with it, where there is none.
        """
        dropout = dropout or not self.attempt(training=training).drops
        key = (training, dropout)
        if key not in self._passes:
            self._passes[key] = self._run(training=training, dropout=dropout)
        return self._passes[key]

    def look(self, look: Look, *, training: bool) -> Pass:
        """Make a further pass in which ``look(norm, x, y)`` sees input and output of each norm.

        What it returns is in `Pass.seen`; the tensors may be changed in place later, so keep no
        view of them. What a `Call` tells needs no pass of its own.
        """
        return self._run(training=training, dropout=True, look=look)

    def _run(self, *, training: bool, dropout: bool, look: Look | None = None) -> Pass:
        scratch = self._prepared(training=training, double=False)
        made = observe.run(scratch, self.batches, self._shown, look, dropout=dropout)
        if not made.calls:
            raise NotPossibleError(
                "a norm that is called: none was; a forward= has to run the model that it is given"
            )
        return made

    def fitted(self, batches: Collection[int]) -> Pass:
        """Make a pass in eval mode, with the running statistics of these mini-batches.

        They are those of a pass that was made, since `surgery.recalibrate` waits for the other
        processes, of which one may not get here. Norms that were skipped keep their own.
        """
        train = self.forward(training=True, dropout=False)
        scratch = self._prepared(training=False, double=False)
        for name, norm in norms_of(scratch).items():
            calls = train.calls.get(name, [])
            used = all(c.uses_batch for c in calls) and in_every_batch(calls, len(train.outputs))
            if norm.mean is not None and used:
                mean, var = pooled([call for call in calls if call.batch in batches])
                norm.mean.copy_(mean)
                if norm.var is not None and "running_cov" not in norm.tensors:
                    norm.var.copy_(var)
        return observe.run(scratch, self.batches, self._shown)

    def _prepared(self, **options: Any) -> nn.Module:
        if not self.batches:
            raise NotPossibleError(NEEDS["forward"])
        return observe.prepared(self.model, **options)

    def _shown(self, model: nn.Module, batch: Any) -> Any:
        try:
            return (self._show or show_batch)(model, batch)
        except Exception as error:
            mode = "train" if model.training else "eval"
            error.add_note(f"The doctor showed the model a batch in {mode} mode.")
            if self._show is None and _has_more(batch):
                error.add_note(
                    "The model got the first entry of the batch; where it takes more, say so by "
                    "forward=lambda model, batch: ..."
                )
            raise

    @functools.cached_property
    def backward(self) -> dict[bool, Gradients]:
        """Gradients in train mode (key True) and with fixed statistics (False), without dropout.

        Fixed statistics are those of eval mode, and (0, 1) in norms that have none of use. It is
        computed in float64 and on a few examples where the model takes that. Without `loss` outputs
        get random gradients.
        """
        self.forward(training=True)  # raises what stands in the way of a whole pass

        def make(batch: Any, double: bool) -> dict[bool, Gradients]:
            return {mode: self._gradients(batch, mode, double) for mode in (True, False)}

        try:
            return self._on_few(make)
        except _NoBackwardError as error:
            raise NotPossibleError(f"a backward pass, at which torch says: {error}") from error

    def _on_few(self, make: Callable[[Any, bool], Any]) -> Any:
        """Return ``make(batch, double)`` of a few examples in float64, else of all, else not so."""
        batch = next(iter(self.batches), None)
        few = observe.first_examples(batch, FEW)
        for each in (few,) if few is batch else (few, batch):
            try:
                return make(each, True)
            except NotPossibleError:
                raise
            except Exception:  # whatever a model raises that insists on its type or on a size
                continue
        return make(batch, False)

    def _gradients(self, batch: Any, training: bool, double: bool) -> Gradients:
        scratch = self._prepared(training=training, double=double)
        if not training:
            _fix_statistics(scratch)
        arriving: dict[str, float] = {}
        handles = [
            module.register_forward_hook(_weigh(name, arriving))
            for name, module in scratch.named_modules()
            if next(module.parameters(recurse=False), None) is not None
            and not isinstance(module, torch.jit.ScriptModule)
        ]
        batch = observe.as_double(batch) if double else batch
        try:
            made = observe.run(scratch, [batch], self._shown, each=self._pull, dropout=False)
        finally:
            for handle in handles:
                handle.remove()
        if made.failed:
            raise ValueError(f"{made.failed} has one value per mean")
        found = {k: p.grad for k, p in scratch.named_parameters() if p.grad is not None}
        eps = max((torch.finfo(g.dtype).eps for g in found.values()), default=0.0)
        return Gradients(found, arriving, eps)

    def _pull(self, output: Any, batch: Any) -> None:
        if self._loss is not None:
            outputs, upstream = [self._loss(output, batch)], None
        else:
            outputs = [y for y in observe.tensors_of(output) if y.requires_grad]
            if not outputs:
                raise NotPossibleError("an output with a gradient, or loss=")
            generator = torch.Generator().manual_seed(1)
            upstream = [torch.randn(y.shape, generator=generator).to(y) for y in outputs]
        try:
            torch.autograd.backward(outputs, upstream)
        except RuntimeError as error:  # the loss itself has been computed
            raise _NoBackwardError(str(error)) from error

    @functools.cached_property
    def alone(self) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs of the first example in eval mode: in its mini-batch, and among its own copies.

        In float64 where the model takes it, so that what differs is no rounding.
        """
        found = observe.sizes(next(iter(self.batches), None))
        if len(found) != 1 or found == {1}:
            raise NotPossibleError("a mini-batch of more than one example, in all its tensors")
        pairs = self._on_few(self._alone)
        if not pairs:
            raise NotPossibleError("an output with one entry per example, and not for each pair")
        return [whole for whole, _ in pairs], [one for _, one in pairs]

    def _alone(self, batch: Any, double: bool) -> list[tuple[Tensor, Tensor]]:
        batch = observe.as_double(batch) if double else batch
        copies = tree_map(
            lambda x: x[:1].expand_as(x).clone() if isinstance(x, Tensor) and x.dim() else x, batch
        )
        outputs = []
        for each in (batch, copies):
            scratch = self._prepared(training=False, double=double)
            outputs.append(observe.run(scratch, [each], self._shown).outputs[0])
        [size] = observe.sizes(batch)
        return [
            (a[0], b[0])
            for a, b in zip(*outputs, strict=True)
            if a.dim() and a.shape[0] == size and a.shape == b.shape and size not in a.shape[1:]
        ]

    def values(self) -> dict[str, int]:
        """Return the fewest values per mean of each norm that normalized by its input.

        From a pass in train mode if a rule has needed one, and from a watched loop.
        """
        found: dict[str, int] = {}
        made = self._passes.get((True, True))
        for name, calls in made.calls.items() if made else ():
            used = [call.values for call in calls if call.uses_batch]
            found |= {name: min(used)} if used else {}
        for name, seen in self.record.norms.items() if self.record else ():
            found |= {name: min(seen.values)} if seen.values else {}
        return found


def _has_more(batch: Any) -> bool:
    """Whether `show_batch` gives the model one tensor of several entries."""
    return isinstance(batch, tuple | list) and len(batch) > 1 and isinstance(batch[0], Tensor)


def _fix_statistics(model: nn.Module) -> None:
    for norm in norms_of(model).values():
        mean, var = norm.mean, norm.var
        usable = mean is not None and var is not None and bool((mean.isfinite() & (var >= 0)).all())
        if not usable and isinstance(norm.module, _NormBase) and "running_cov" not in norm.tensors:
            like = next(model.parameters())
            norm.module.track_running_stats = True
            norm.module.running_mean = like.new_zeros(norm.module.num_features)
            norm.module.running_var = like.new_ones(norm.module.num_features)


def _weigh(name: str, arriving: dict[str, float]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple, output: Any) -> None:
        for y in observe.tensors_of(output):
            if y.requires_grad:
                y.register_hook(add)

    def add(gradient: Tensor) -> None:
        arriving[name] = arriving.get(name, 0.0) + float(gradient.abs().sum())

    return hook
