"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Self, overload

from bnlib.layers.base import Array, Layer


class _Container(Layer):
    """Children by name; parameters, gradients, seeds and mode are theirs."""

    def __init__(self, children: dict[str, Layer]) -> None:
        for name, child in children.items():
            if not isinstance(child, Layer):
                raise TypeError(f"layer {name}: expected a Layer, got {child!r}")
        self._children = children
        leaves = list(self._leaves())
        if len({id(leaf) for leaf in leaves}) < len(leaves):
            raise ValueError(
                f"{self._label}: a layer may occur only once, as it remembers one input"
            )
        seeds = {child.seeds for child in children.values() if child.per_seed}
        if len(seeds) > 1:
            raise ValueError(
                f"{self._label}: layers: expected the same number of seeds in all, got {seeds}"
            )
        self.per_seed = bool(seeds)
        super().__init__(seeds=seeds.pop() if seeds else None)

    def _set_parameters(self, parameters: dict[str, Array]) -> None:
        """Leave them where they are: with the children."""

    @property
    def parameters(self) -> Mapping[str, Array]:  # type: ignore[override]  # read-only
        return self._joined("parameters")

    @property
    def gradients(self) -> Mapping[str, Array]:  # type: ignore[override]
        return self._joined("gradients")

    def _joined(self, attribute: str) -> Mapping[str, Array]:
        return MappingProxyType(
            {
                f"{name}.{key}": array
                for name, child in self._children.items()
                for key, array in getattr(child, attribute).items()
            }
        )

    def _leaves(self) -> Iterator[Layer]:
        for child in self._children.values():
            if isinstance(child, _Container):
                yield from child._leaves()
            else:
                yield child

    def train(self) -> Self:
        """Switch to train mode, with all layers inside, and return the layer."""
        for child in self._children.values():
            child.train()
        return super().train()

    def eval(self) -> Self:
        """Switch to eval mode, with all layers inside, and return the layer."""
        for child in self._children.values():
            child.eval()
        return super().eval()

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self._children.items()]
        inner = "".join(f"\n{line}" for line in lines).replace("\n", "\n  ")
        return f"{type(self).__name__}({inner}\n)" if lines else f"{type(self).__name__}()"

    @property
    def _label(self) -> str:
        return type(self).__name__


class Sequential(_Container):
    """Layers one after the other.

    Parameters
    ----------
    *layers : Layer
        The layers, first to last. None at all is the identity.

    Attributes
    ----------
    parameters, gradients : mapping of str to array
        Those of the layers, read-only, under names such as ``"0.weight"``: number of the layer,
        name in the layer. Write into the arrays to change a parameter.

    Raises
    ------
    TypeError
        If an argument is not a layer.
    ValueError
        If a layer occurs twice, or two layers have different numbers of seeds.

    Notes
    -----
    ``len(network)``, ``network[i]``, ``network[i:j]`` (a Sequential that shares the layers) and
    iteration work as for a list.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Linear, ReLU, Sequential
    >>> rng = np.random.default_rng(0)
    >>> network = Sequential(Linear(4, 8, rng=rng), ReLU(), Linear(8, 2, rng=rng))
    >>> network
    Sequential(
      (0): Linear(4, 8)
      (1): ReLU()
      (2): Linear(8, 2)
    )
    >>> list(network.parameters)
    ['0.weight', '0.bias', '2.weight', '2.bias']
    >>> network(np.ones((3, 4))).shape
    (3, 2)
    """

    can_skip_input_gradient = True

    def __init__(self, *layers: Layer) -> None:
        super().__init__({str(i): layer for i, layer in enumerate(layers)})

    def _forward(self, x: Array) -> tuple[Array, tuple[()]]:
        for layer in self:
            x = layer.forward(x)
        return x, ()

    def _backward(
        self, dy: Array, cache: tuple[()], *, input_gradient: bool = True
    ) -> Array | None:
        for layer in list(self)[:0:-1]:
            dy = layer.backward(dy)
        return self[0].backward(dy, input_gradient=input_gradient) if len(self) else dy

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._children.values())

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Layer:
        layers = list(self)
        return Sequential(*layers[index]) if isinstance(index, slice) else layers[index]


class Residual(_Container):
    """A branch whose output is added to its input, :math:`y = x + f(x)`.

    Parameters
    ----------
    branch : Layer
        The function f; its output has the shape of its input.

    Attributes
    ----------
    parameters, gradients : mapping of str to array
        Those of the branch, read-only, under names such as ``"branch.weight"``.

    Raises
    ------
    TypeError
        If ``branch`` is not a layer.
    ValueError
        If the branch changes the shape of the input.

    Notes
    -----
    :cite:t:`he2016deep`. dL/dx = dL/dy + (dL/dy through the branch).

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import ReLU, Residual
    >>> Residual(ReLU())(np.array([[-1.0, 2.0]]))
    array([[-1.,  4.]])
    """

    def __init__(self, branch: Layer) -> None:
        super().__init__({"branch": branch})
        self.branch = branch

    def _forward(self, x: Array) -> tuple[Array, tuple[()]]:
        y = self.branch.forward(x)
        if y.shape != x.shape:
            raise ValueError(
                f"{self._label}: branch: expected the shape {x.shape} of x, got {y.shape}"
            )
        return x + y, ()

    def _backward(self, dy: Array, cache: tuple[()]) -> Array:
        return dy + self.branch.backward(dy)
