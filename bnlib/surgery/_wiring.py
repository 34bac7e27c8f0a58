"""Which layer feeds which batch norm: by torch.fx for every input, by hooks for given inputs."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from bnlib.surgery._algebra import NotExactError
from bnlib.surgery._modules import LINEAR_LAYERS, is_batch_norm

METADATA = {"shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_cuda"}
METADATA |= {"size", "dim", "numel", "is_floating_point", "get_device"}
"""What can be asked of a tensor without reading its values."""


class NotReachedError(NotExactError):
    """No call of the layer was seen in this run."""


class Wiring:
    """Who reads which value in one run, or in one trace, of a model.

    Attributes
    ----------
    inputs, outputs : dict of str to list
        The value that a layer or batch norm takes and returns, one entry a call.
    uses : Counter
        How often a value is read.
    shared : set of str
        Layers and batch norms whose parameters something else reads, too.
    extra : set of str
        Layers that are called with more than their input.
    dims : dict of str to int
        Number of axes of what a batch norm takes; empty for a trace.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, list[Hashable]] = defaultdict(list)
        self.outputs: dict[str, list[Hashable]] = defaultdict(list)
        self.uses: Counter[Hashable] = Counter()
        self.shared: set[str] = set()
        self.extra: set[str] = set()
        self.dims: dict[str, int] = {}

    def layer_before(self, batch_norm: str, layers: Iterable[str]) -> str:
        """Return the layer whose output goes into the batch norm and nowhere else."""
        self._check_once(batch_norm, "it")
        [value] = self.inputs[batch_norm]
        layer = next((name for name in layers if value in self.outputs.get(name, ())), None)
        if layer is None:
            raise NotExactError("its input does not come directly from a layer that can take it")
        self._check_once(layer, layer)
        if self.uses[value] > 1:
            raise NotExactError(f"the output of {layer} is used elsewhere, too")
        return layer

    def layer_after(self, batch_norm: str, layers: Iterable[str]) -> str:
        """Return the layer that the batch norm's output goes into, and into nothing else."""
        self._check_once(batch_norm, "it")
        [value] = self.outputs[batch_norm]
        layer = next((name for name in layers if value in self.inputs.get(name, ())), None)
        if layer is None:
            raise NotExactError("its output does not go directly into a layer that can take it")
        self._check_once(layer, layer)
        if self.uses[value] > 1:
            raise NotExactError(f"its output is used elsewhere than in {layer}, too")
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


def watched(model: nn.Module) -> dict[nn.Module, str]:
    """Return the layers and batch norms, and the modules that pass their input on ("")."""
    names = {}
    for name, module in model.named_modules():
        if is_batch_norm(module) or isinstance(module, LINEAR_LAYERS):
            names[module] = name
        elif isinstance(module, nn.Identity) or _is_idle_dropout(module):
            names[module] = ""
    return names


def _is_idle_dropout(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.dropout._DropoutNd) and not module.training


# ------------------------------------------------------------------ torch.fx


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return (
            is_batch_norm(module)
            or isinstance(module, LINEAR_LAYERS)
            or super().is_leaf_module(module, name)
        )


def trace(model: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> Wiring | None:
    """Trace for all tensors in place of those given; None if torch.fx cannot."""
    try:
        given = inspect.signature(model.forward).bind(*args, **kwargs)
        given.apply_defaults()
        fixed = {name: value for name, value in given.arguments.items() if _is_fixed(value)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _Tracer().trace(model, fixed)
    except Exception:  # the tracer runs the model's code, which may raise anything
        return None
    return _read_graph(graph, model)


def _is_fixed(value: Any) -> bool:
    leaves = tree_leaves(value)
    return bool(leaves) and not any(isinstance(leaf, Tensor) for leaf in leaves)


def _read_graph(graph: fx.Graph, model: nn.Module) -> Wiring:
    wiring, names, value = Wiring(), watched(model), {}
    for node in graph.nodes:
        module = model.get_submodule(node.target) if node.op == "call_module" else None
        name = names.get(module)
        passes_on = name == "" and bool(node.all_input_nodes)
        value[node] = value[node.all_input_nodes[0]] if passes_on else node
        if node.op == "get_attr":
            owner = model.get_submodule(str(node.target).rpartition(".")[0])
            wiring.shared.add(names.get(owner, ""))
        if not passes_on and not _asks_metadata(node):
            wiring.uses.update(value[source] for source in node.all_input_nodes)
        if name:
            wiring.inputs[name].append(value[node.all_input_nodes[0]])
            wiring.outputs[name].append(node)
            if len(node.args) + len(node.kwargs) > 1:
                wiring.extra.add(name)
    return wiring


def _asks_metadata(node: fx.Node) -> bool:
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in METADATA
    return node.op == "call_method" and node.target in METADATA


# ------------------------------------------------------------------ one run


class Recorder(TorchFunctionMode):
    """Run a model, and note what each layer takes and what else reads it.

    Hooks see the layers; the function mode sees everything between them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.wiring = Wiring()
        self.model = model
        self._names = watched(model)
        self._owners: dict[int, set[str]] = defaultdict(set)
        for module, name in self._names.items():
            for parameter in module.parameters(recurse=False):
                self._owners[id(parameter)].add(name)
        self._inside: list[str] = []
        self._alias: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id is unique only while its tensor lives

    def run(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        handles = []
        for module in self._names:
            handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
        try:
            with self:
                output = self.model(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
        self._read(output)
        return output

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if not _is_metadata(func):
            self._read((args, kwargs))
        return func(*args, **(kwargs or {}))

    def _read(self, tree: Any) -> None:
        for tensor in _tensors(tree):
            owners = self._owners.get(id(tensor))
            if owners and not (self._inside and self._inside[-1] in owners):
                self.wiring.shared |= owners
            if not self._inside:
                self.wiring.uses[self._value(tensor)] += 1

    def _value(self, tensor: Tensor) -> int:
        self._alive.append(tensor)
        return self._alias.get(id(tensor), id(tensor))

    def _enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        name = self._names[module]
        tensors = _tensors((args, kwargs))
        if name and tensors:
            self._read(tensors[0])
            self.wiring.inputs[name].append(self._value(tensors[0]))
            self.wiring.dims[name] = tensors[0].dim()
            if len(args) + len(kwargs) > 1:
                self.wiring.extra.add(name)
        self._inside.append(name)

    def _leave(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        self._inside.pop()
        name = self._names[module]
        if name:
            self.wiring.outputs[name].append(self._value(output))
        elif (tensors := _tensors((args, kwargs))) and output is not tensors[0]:
            self._alias[id(output)] = self._value(tensors[0])
            self._alive.append(output)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _is_metadata(func: Any) -> bool:
    owner = getattr(func, "__self__", None)  # of a getter such as Tensor.shape.__get__
    return (getattr(owner, "__name__", "") or getattr(func, "__name__", "")) in METADATA or (
        getattr(func, "__name__", "") in METADATA
    )
