"""What every layer has: parameters, gradients, a mode, forward, backward, and a seed axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnlib._validation import Rng, as_generators, check_integer

Array = NDArray[np.floating]
Initializer = Callable[[np.random.Generator, tuple[int, ...], int, int], Array]


class Layer:
    """A differentiable map with parameters, a mode, and a hand-derived backward pass.

    To write a layer, define ``_forward(x)``, which returns the output and whatever the backward
    pass needs, and ``_backward(dy, cache)``, which stores the gradients of the parameters in
    ``self.gradients`` and returns the gradient of the input. Neither modifies its input.

    Parameters
    ----------
    parameters : dict of str to array, optional
        The arrays that an optimizer updates in place.
    seeds : int, optional
        Number of independent replicas ``k`` on a leading seed axis; ``None`` for no such axis.

    Attributes
    ----------
    parameters : dict of str to array
        Parameters by name; shape ``(k, ...)`` with a seed axis.
    gradients : dict of str to array
        Gradient of each parameter from the last ``backward``; zeros before the first. A backward
        pass makes new arrays, so a gradient that was kept is not overwritten.
    training : bool
        True in train mode (the mode after construction), False in eval mode.
    seeds : int or None
        Length of the seed axis.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Layer
    >>> class Double(Layer):
    ...     def _forward(self, x):
    ...         return 2 * x, ()
    ...
    ...     def _backward(self, dy, cache):
    ...         return 2 * dy
    >>> layer = Double()
    >>> layer(np.array([[1.0, 2.0]]))
    array([[2., 4.]])
    >>> layer.backward(np.array([[1.0, 1.0]]))
    array([[2., 2.]])
    """

    per_seed = False
    """Whether the layer holds something for each seed, so that ``seeds`` must fit its input."""
    can_skip_input_gradient = False
    """Whether ``_backward`` takes ``input_gradient=False``."""

    def __init__(
        self, parameters: dict[str, Array] | None = None, *, seeds: int | None = None
    ) -> None:
        if seeds is not None:
            check_integer("seeds", seeds)
        self.training = True
        self.seeds = seeds
        self._set_parameters({} if parameters is None else parameters)
        self._cache: Any = None
        self._output: tuple[tuple[int, ...], np.dtype] | None = None

    def _set_parameters(self, parameters: dict[str, Array]) -> None:
        self.parameters = parameters
        self.gradients = {name: np.zeros_like(p) for name, p in parameters.items()}

    def __call__(self, x: Array) -> Array:
        """Do the same as :meth:`forward`."""
        return self.forward(x)

    def forward(self, x: Array) -> Array:
        """Compute the output of the layer.

        Parameters
        ----------
        x : array, shape (m, ...) or (k, m, ...)
            A mini-batch, or one for each seed. It is not modified. The layer keeps a reference
            for the backward pass: do not change it in between.

        Returns
        -------
        array, shape of the output, dtype of x
            The output.

        Raises
        ------
        TypeError
            If ``x`` is not an array of floating-point numbers, or not of the dtype of the
            parameters.
        ValueError
            If the shape of ``x`` does not fit the layer. The layer is left as it was.
        """
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            raise TypeError(f"{self._label}: x: expected a floating-point array, got {_kind(x)}")
        if self.seeds is not None and (x.ndim < 2 or x.shape[0] != self.seeds):
            raise ValueError(
                f"{self._label}: x: expected shape ({self.seeds}, m, ...), the seed axis first, "
                f"got {x.shape}; use np.broadcast_to for an input that all seeds share"
            )
        if x.size == 0:
            raise ValueError(
                f"{self._label}: x: expected at least one example, got shape {x.shape}"
            )
        y, self._cache = self._forward(x)
        self._output = y.shape, y.dtype
        return y

    @overload
    def backward(self, dy: Array, *, input_gradient: Literal[True] = True) -> Array: ...
    @overload
    def backward(self, dy: Array, *, input_gradient: bool) -> Array | None: ...
    def backward(self, dy: Array, *, input_gradient: bool = True) -> Array | None:
        """Propagate the gradient of a loss from the output to the input of the last ``forward``.

        Parameters
        ----------
        dy : array, shape and dtype of the output
            Gradient of the loss with respect to the output. It is not modified.
        input_gradient : bool
            Whether to compute the gradient of the input. Training does not need it, and without
            it the first layer of a network has half as much to do.

        Returns
        -------
        array, shape of the input, or None
            Gradient of the loss with respect to the input; None if it was not asked for. Those
            with respect to the parameters are in ``gradients``.

        Raises
        ------
        RuntimeError
            If ``forward`` has not been called.
        ValueError
            If ``dy`` does not have the shape of the output.
        TypeError
            If ``dy`` does not have the dtype of the output.
        """
        if self._output is None:
            raise RuntimeError(f"{self._label}: backward needs a forward call first")
        shape, dtype = self._output
        if not isinstance(dy, np.ndarray) or dy.dtype != dtype:
            raise TypeError(
                f"{self._label}: dy: expected an array of dtype {dtype}, got {_kind(dy)}"
            )
        if dy.shape != shape:
            raise ValueError(f"{self._label}: dy: expected the shape {shape} of y, got {dy.shape}")
        if input_gradient:
            return self._backward(dy, self._cache)
        skip = {"input_gradient": False} if self.can_skip_input_gradient else {}
        self._backward(dy, self._cache, **skip)
        return None

    def _forward(self, x: Array) -> tuple[Array, Any]:
        raise NotImplementedError

    def _backward(self, dy: Array, cache: Any) -> Array | None:
        raise NotImplementedError

    def train(self) -> Self:
        """Switch to train mode and return the layer."""
        self.training = True
        return self

    def eval(self) -> Self:
        """Switch to eval mode and return the layer."""
        self.training = False
        return self

    def __repr__(self) -> str:
        seeds = [] if self.seeds is None else [f"seeds={self.seeds}"]
        return f"{type(self).__name__}({', '.join([*self._describe(), *seeds])})"

    def _describe(self) -> list[str]:
        """Arguments to show in the repr."""
        return []

    @property
    def _label(self) -> str:
        """Name of the layer in error messages."""
        return repr(self)

    def _check_dtype(self, x: Array) -> None:
        dtype = self.parameters["weight"].dtype
        if x.dtype != dtype:
            raise TypeError(f"{self._label}: x: expected the weight's dtype {dtype}, got {x.dtype}")


def _kind(x: object) -> str:
    return f"dtype {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__


def draw(
    rng: Rng, init: Initializer, shape: tuple[int, ...], fans: tuple[int, int], dtype: DTypeLike
) -> tuple[Array, int | None]:
    """Draw a parameter, each seed's part from its own generator.

    Returns
    -------
    parameter : array, shape as given or (k, *shape)
        Drawn in float64 and rounded to ``dtype``.
    seeds : int or None
        Number of seeds ``k``.
    """
    generators, seeds = as_generators(rng)
    dtype = float_dtype(dtype)
    drawn = np.stack([init(r, shape, *fans) for r in generators]).astype(dtype)
    return (drawn[0] if seeds is None else drawn), seeds


def float_dtype(dtype: DTypeLike) -> np.dtype:
    """Return ``dtype`` as a floating-point dtype, or raise TypeError."""
    if not np.issubdtype(dtype, np.floating):
        raise TypeError(f"dtype: expected a floating-point type, got {dtype!r}")
    return np.dtype(dtype)


def with_seeds(seeds: int | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Put the seed axis, if there is one, before ``shape``."""
    return shape if seeds is None else (seeds, *shape)
