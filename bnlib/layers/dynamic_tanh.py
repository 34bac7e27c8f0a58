"""Dynamic tanh: a bounded function of each element in the place of a norm."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from bnlib._validation import check_integer
from bnlib.layers.base import Array, Layer, float_dtype, with_seeds


class DynamicTanh(Layer):
    """Squash each element, then scale and shift it: gamma tanh(alpha x) + beta.

    Parameters
    ----------
    num_features : int
        Size d of the last axis, each element of which has its own ``gamma`` and ``beta``.
    alpha : float
        First value of ``alpha``.
    seeds : int, optional
        Length of the leading seed axis; None for no such axis.
    dtype : dtype
        Floating-point type of the parameters and the input.

    Attributes
    ----------
    parameters : dict
        ``alpha``, (1,) or (k, 1); ``gamma`` and ``beta``, (d,) or (k, d).

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If a size is not positive.

    Notes
    -----
    :cite:t:`zhu2025transformers`. It takes no statistics, so train and eval mode are the same.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import DynamicTanh
    >>> DynamicTanh(1, alpha=1.0)(np.array([[-100.0], [0.0], [100.0]]))
    array([[-1.],
           [ 0.],
           [ 1.]])
    """

    per_seed = True

    def __init__(
        self,
        num_features: int,
        *,
        alpha: float = 0.5,
        seeds: int | None = None,
        dtype: DTypeLike = np.float64,
    ) -> None:
        check_integer("num_features", num_features)
        if seeds is not None:
            check_integer("seeds", seeds)
        self.num_features, self.dtype = num_features, float_dtype(dtype)
        one, each = (with_seeds(seeds, shape) for shape in ((1,), (num_features,)))
        parameters = {"alpha": np.full(one, alpha, self.dtype)}
        parameters |= {"gamma": np.ones(each, self.dtype), "beta": np.zeros(each, self.dtype)}
        super().__init__(parameters, seeds=seeds)

    def _forward(self, x: Array) -> tuple[Array, tuple[Array, ...]]:
        self._check(x)
        alpha, gamma, beta = (self._wide(name, x) for name in ("alpha", "gamma", "beta"))
        t = np.tanh(alpha * x)
        return gamma * t + beta, (x, t, alpha, gamma)

    def _backward(self, dy: Array, cache: tuple[Array, ...]) -> Array:
        x, t, alpha, gamma = cache
        examples = tuple(range(self.seeds is not None, x.ndim - 1))
        inner = dy * gamma * (1 - t**2)  # gradient of alpha x
        self.gradients["alpha"] = (inner * x).sum(axis=(*examples, -1))[..., None]
        self.gradients["gamma"] = (dy * t).sum(axis=examples)
        self.gradients["beta"] = dy.sum(axis=examples)
        return alpha * inner

    def _wide(self, name: str, x: Array) -> Array:
        """Put axes of length 1 between the seeds and the features of a parameter."""
        parameter = self.parameters[name]
        ones = (1,) * (x.ndim - parameter.ndim)
        return parameter.reshape(*parameter.shape[:-1], *ones, parameter.shape[-1])

    def _check(self, x: Array) -> None:
        if x.dtype != self.dtype:
            raise TypeError(
                f"{self._label}: x: expected the layer's dtype {self.dtype}, got {x.dtype}"
            )
        if x.ndim < len(with_seeds(self.seeds, (0, 0))) or x.shape[-1] != self.num_features:
            form = "m, ..., " if self.seeds is None else f"{self.seeds}, m, ..., "
            raise ValueError(
                f"{self._label}: x: expected shape ({form}{self.num_features}), got {x.shape}"
            )

    def _describe(self) -> list[str]:
        return [str(self.num_features)]
