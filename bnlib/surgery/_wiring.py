"""Which layer feeds which batch norm: by torch.fx for every input, by hooks for given inputs."""

from __future__ import annotations

import types
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from bnlib.surgery._algebra import NotExactError, is_running_norm
from bnlib.surgery._modules import LINEAR_LAYERS, hooks_of

METADATA = {"shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_cuda"}
METADATA |= {"size", "dim", "numel", "__len__", "stride", "is_contiguous"}
METADATA |= {"is_floating_point", "get_device"}
"""What can be asked of a tensor without reading its values."""

MOVES = {"flatten", "unflatten", "reshape", "reshape_as", "view", "view_as", "contiguous"}
MOVES |= {"transpose", "swapaxes", "permute", "movedim", "squeeze", "unsqueeze", "T", "mT"}
"""Operations that put the values of their first argument on other axes."""

FIXED = (int, float, complex, str, type(None), torch.dtype, torch.device)
"""What an argument may hold besides tensors, so that a trace is one for all tensors."""

INPUT, OUTPUT = "the input of the model", "the output of the model"


class NotReachedError(NotExactError):
    """No call of the layer was seen in this run."""


class Wiring:
    """Who reads which value in one run, or in one trace, of a model.

    A value keeps its identity through what only moves it to other axes, such as a flatten.

    Attributes
    ----------
    inputs, outputs : dict of str to list
        The value that a layer or norm takes and returns, one entry a call.
    makers : dict
        What computes a value, in words.
    readers : dict
        What reads a value, in words, one entry a use.
    shared : set of str
        Layers and norms whose parameters something else reads, too.
    extra : set of str
        Layers and norms that are called with more than their input.
    arrivals : dict of str to Arrival
        How the input of a layer or norm came there; empty for a trace.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, list[Hashable]] = defaultdict(list)
        self.outputs: dict[str, list[Hashable]] = defaultdict(list)
        self.makers: dict[Hashable, str] = {}
        self.readers: dict[Hashable, list[str]] = defaultdict(list)
        self.shared: set[str] = set()
        self.extra: set[str] = set()
        self.arrivals: dict[str, Arrival] = {}

    def layer_before(self, norm: str, layers: Iterable[str]) -> str:
        """Return the layer whose output goes into the norm and nowhere else."""
        self._check_once(norm, "it")
        [value] = self.inputs[norm]
        layer = next((name for name in layers if value in self.outputs.get(name, ())), None)
        if layer is None:
            maker = self.makers.get(value, "something that torch cannot see")
            raise NotExactError(f"its input does not come directly from a layer but from {maker}")
        self._check_once(layer, layer)
        self._check_one_reader(value, f"the output of {layer}", norm)
        return layer

    def layer_after(self, norm: str, layers: Iterable[str]) -> str:
        """Return the layer that the norm's output goes into, and into nothing else."""
        self._check_once(norm, "it")
        [value] = self.outputs[norm]
        layer = next((name for name in layers if value in self.inputs.get(name, ())), None)
        if layer is None:
            readers = " and ".join(dict.fromkeys(self.readers[value])) or "nothing"
            raise NotExactError(f"its output does not go directly into a layer but into {readers}")
        self._check_once(layer, layer)
        self._check_one_reader(value, "its output", layer)
        if layer in self.extra:
            raise NotExactError(f"{layer} is called with more than its input")
        return layer

    def _check_once(self, name: str, subject: str) -> None:
        calls = len(self.inputs.get(name, ()))
        if calls == 0:
            raise NotReachedError(f"{subject} is not reached by the example inputs")
        if calls > 1:
            raise NotExactError(f"{subject} is called {calls} times")
        if name in self.shared:
            raise NotExactError(f"the parameters of {subject} are read elsewhere, too")

    def _check_one_reader(self, value: Hashable, subject: str, known: str) -> None:
        if len(self.readers[value]) > 1:
            others = [who for who in self.readers[value] if not who.endswith(f"({known})")]
            where = ": by " + " and ".join(dict.fromkeys(others)) if others else ""
            raise NotExactError(f"{subject} is used elsewhere, too{where}")


class Arrival:
    """How a value came to a layer or norm from where it was computed.

    Parameters
    ----------
    start, end : Tensor
        The value there and here; only shapes and strides are kept.
    moves : list of callable
        What moved it to other axes meanwhile.

    Attributes
    ----------
    is_ambiguous : bool
        Whether an axis of length 1 may hide what the moves do to longer ones.
    """

    def __init__(self, start: Tensor, end: Tensor, moves: list[Callable]) -> None:
        self.start, self.end = start.shape, end.shape
        self._strides, self._moves = start.stride(), moves
        self.is_ambiguous = bool(moves) and 1 in (*start.shape, *end.shape)

    def carries(self, start_axis: int, end_axis: int) -> bool:
        """Return whether each channel on one axis at the start is the same one at the end.

        Each value is replaced by the number of its channel, and these numbers are moved.
        """
        labels = torch.empty_strided(self.start, self._strides, dtype=torch.int64)
        labels.copy_(_numbers(self.start, start_axis))
        for move in self._moves:
            labels = move(labels)
        return self.start[start_axis] == self.end[end_axis] and bool(
            (labels == _numbers(self.end, end_axis)).all()
        )


def _numbers(shape: torch.Size, axis: int) -> Tensor:
    return torch.arange(shape[axis]).view(-1, *[1] * (len(shape) - 1 - axis))


def watched(model: nn.Module) -> dict[nn.Module, str]:
    """Return the layers and norms, and the modules that pass their input on ("")."""
    names = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            continue
        if is_running_norm(module) or isinstance(module, LINEAR_LAYERS):
            names[module] = name
        elif _is_idle(module):
            names[module] = ""
    return names


def _is_idle(module: nn.Module) -> bool:
    """Return whether a module is an identity, or a dropout in eval mode, and does no more."""
    idle = isinstance(module, nn.Identity) or (
        isinstance(module, nn.modules.dropout._DropoutNd) and not module.training
    )
    known = str(type(module).forward.__module__).startswith(("torch.nn.", "bnlib."))
    return idle and known and "forward" not in vars(module) and not hooks_of(module)


def _called(name: str, module: nn.Module) -> str:
    return f"{getattr(module, 'original_name', type(module).__name__)} ({name})"


class Shown(nn.Module):
    """A model, and how it is called: ``show(model, *args, **kwargs)``."""

    def __init__(self, model: nn.Module, show: Callable) -> None:
        super().__init__()
        self.model = model
        self._show = show

    def forward(self, args: tuple, kwargs: dict) -> Any:
        return self._show(self.model, *args, **kwargs)


# ------------------------------------------------------------------ torch.fx


class _Tracer(fx.Tracer):
    def __init__(self, shown: Shown) -> None:
        super().__init__()
        self._model = shown.model
        self._leaves = watched(shown.model)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return (
            module in self._leaves
            or isinstance(module, torch.jit.ScriptModule)
            or (module is not self._model and super().is_leaf_module(module, name))
        )


def trace(shown: Shown, args: tuple, kwargs: dict) -> Wiring | None:
    """Trace for all tensors in place of those given; None if torch.fx cannot."""
    call = {"args": args, "kwargs": kwargs}
    if not all(isinstance(leaf, (Tensor, *FIXED)) for leaf in tree_leaves(call)):
        return None  # the tensors within would be traced as constants
    held = tree_map(lambda x: fx.PH if isinstance(x, Tensor) else x, call)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _Tracer(shown).trace(shown, held)
    except Exception:  # the tracer runs the model's code, which may raise anything
        return None
    return _read_graph(graph, shown)


def _read_graph(graph: fx.Graph, shown: Shown) -> Wiring:
    wiring, names, value = Wiring(), watched(shown.model), {}
    for node in graph.nodes:
        module = shown.get_submodule(node.target) if node.op == "call_module" else None
        name = names.get(module)
        sources = node.all_input_nodes
        passes_on = bool(sources) and (name == "" or _moves(node, module))
        value[node] = value[sources[0]] if passes_on else node
        what = _described(node, module)
        if not passes_on:
            wiring.makers[node] = what
        if node.op == "get_attr":
            owner = shown.get_submodule(str(node.target).rpartition(".")[0])
            wiring.shared.add(names.get(owner, ""))
        for source in sources:
            if not (passes_on or _asks_metadata(node)):
                wiring.readers[value[source]].append(what)
        if name:
            wiring.inputs[name].append(value[sources[0]])
            wiring.outputs[name].append(node)
            if _has_more((node.args, node.kwargs)):
                wiring.extra.add(name)
    return wiring


def _described(node: fx.Node, module: nn.Module | None) -> str:
    if node.op in ("placeholder", "output"):
        return INPUT if node.op == "placeholder" else OUTPUT
    if module is not None:
        return _called(str(node.target).partition(".")[2], module)
    return _function(node)


def _function(node: fx.Node) -> str:
    if node.target is getattr:
        return node.args[1]
    return node.target if isinstance(node.target, str) else _name(node.target)


def _moves(node: fx.Node, module: nn.Module | None) -> bool:
    if node.op == "call_module":
        return isinstance(module, nn.Flatten | nn.Unflatten)
    return node.op in ("call_method", "call_function") and _function(node) in MOVES


def _name(function: Any) -> str:
    """Return the name of a function, or of the attribute that it gets."""
    owner = getattr(function, "__self__", None)
    attribute = isinstance(owner, types.GetSetDescriptorType)
    return getattr(owner if attribute else function, "__name__", type(function).__name__)


def _has_more(call: tuple[tuple, dict]) -> bool:
    args, kwargs = call
    return sum(value is not None for value in (*args, *kwargs.values())) > 1


def _asks_metadata(node: fx.Node) -> bool:
    asks = node.op == "call_method" or node.target is getattr
    return asks and _function(node) in METADATA


# ------------------------------------------------------------------ one run


class Recorder(TorchFunctionMode):
    """Run a model, and note what each layer takes and what else reads it.

    Hooks see the layers; the function mode sees everything between them.
    """

    def __init__(self, shown: Shown) -> None:
        super().__init__()
        self.wiring = Wiring()
        self.shown = shown
        self._names = watched(shown.model)
        self._owners: dict[int, set[str]] = defaultdict(set)
        for module, name in self._names.items():
            for parameter in module.parameters(recurse=False):
                self._owners[id(parameter)].add(name)
        self._inside: list[str] = []
        self._origin: dict[int, tuple[Tensor, list[Callable]]] = {}  # and the way from there
        self._alive: list[Tensor] = []  # an id is unique only while its tensor lives

    def run(self, args: tuple, kwargs: dict) -> Any:
        handles = []
        for tensor in tensors_of((args, kwargs)):
            self.wiring.makers[id(tensor)] = INPUT
        for module in self._names:
            handles += [
                module.register_forward_pre_hook(self._enter, prepend=True, with_kwargs=True),
                module.register_forward_hook(self._leave, with_kwargs=True),
            ]
        try:
            with self:
                output = self.shown(args, kwargs)
        finally:
            for handle in handles:
                handle.remove()
        self._read(output, OUTPUT)
        self._read_attributes()
        return output

    def _read_attributes(self) -> None:
        """Note what the model keeps of this run in attributes, for whoever reads them later."""
        for name, module in self.shown.model.named_modules():
            for key, value in vars(module).items():
                kept = [t for t in tensors_of(value) if self._value(t) in self.wiring.makers]
                self._read(kept, f"the attribute {f'{name}.{key}'.strip('.')}")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _name(func) in METADATA:
            return func(*args, **kwargs)
        source = next(iter((*args, *kwargs.values())), None)
        moves = not self._inside and _name(func) in MOVES and isinstance(source, Tensor)
        if not moves:
            self._read((args, kwargs), _name(func))
        result = func(*args, **kwargs)
        if moves:
            rest = kwargs if args else dict(list(kwargs.items())[1:])
            self._pass_on(source, result, lambda labels: func(labels, *args[1:], **rest))
        elif not self._inside:
            self._make(result, _name(func))
        return result

    def _read(self, tree: Any, reader: str) -> None:
        for tensor in tensors_of(tree):
            owners = self._owners.get(self._value(tensor))
            if owners and not (self._inside and self._inside[-1] in owners):
                self.wiring.shared |= owners
            if not self._inside:
                self.wiring.readers[self._value(tensor)].append(reader)

    def _make(self, tree: Any, maker: str) -> None:
        for tensor in tensors_of(tree):
            self._alive.append(tensor)
            self.wiring.makers.setdefault(id(tensor), maker)

    def _pass_on(self, source: Tensor, result: Tensor, *moves: Callable) -> None:
        self._alive += [source, result]
        origin, way = self._origin.get(id(source), (source, []))
        if result is not source:
            self._origin[id(result)] = origin, [*way, *moves]

    def _value(self, tensor: Tensor) -> int:
        self._alive.append(tensor)
        origin, _ = self._origin.get(id(tensor), (tensor, []))
        return id(origin)

    def _enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        name = self._names[module]
        tensors = tensors_of((args, kwargs))
        if name and tensors:
            if not self._inside:
                self._read((args, kwargs), _called(name, module))
            self.wiring.inputs[name].append(self._value(tensors[0]))
            origin, moves = self._origin.get(id(tensors[0]), (tensors[0], []))
            self.wiring.arrivals[name] = Arrival(origin, tensors[0], moves)
            if _has_more((args, kwargs)):
                self.wiring.extra.add(name)
        self._inside.append(name)

    def _leave(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        self._inside.pop()
        name = self._names[module]
        tensors = tensors_of((args, kwargs))
        if name:
            self.wiring.outputs[name].append(self._value(output))
            if not self._inside:
                self._make(output, _called(name, module))
        elif tensors:
            self._pass_on(tensors[0], output)


def tensors_of(tree: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
