"""The fully connected layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from bnlib._validation import Rng, check_integer
from bnlib.layers.base import Array, Initializer, Layer, draw, with_seeds
from bnlib.layers.initializers import he


class Linear(Layer):
    r"""Fully connected layer, :math:`y = x W + b`.

    Parameters
    ----------
    d_in, d_out : int
        Number of input and output features.
    rng : numpy.random.Generator or list of k of them
        Source of the initial weights. A list gives a leading seed axis; seed ``i`` then is exactly
        the layer built with ``rng[i]``.
    init : callable
        Initializer of the weight, by default :func:`he`. The bias starts at zero.
    bias : bool
        Whether to add a bias. Batch normalization right after the layer makes it useless.
    dtype : dtype
        Floating-point type of the parameters.

    Attributes
    ----------
    parameters : dict
        ``weight`` (d_in, d_out) or (k, d_in, d_out); ``bias`` (d_out,) or (k, d_out).

    Raises
    ------
    TypeError
        If ``rng`` is not a generator or a list of them, or a size is no integer.
    ValueError
        If ``d_in`` or ``d_out`` is not positive.

    Notes
    -----
    The input has shape (..., d_in) or (k, ..., d_in). The weight is the transpose of the one of
    ``torch.nn.Linear``. With G = dL/dy, summed over the examples: dL/dW = x^T G, dL/db = sum G,
    dL/dx = G W^T.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Linear
    >>> layer = Linear(3, 2, rng=np.random.default_rng(0))
    >>> layer(np.ones((4, 3))).shape
    (4, 2)
    >>> ensemble = Linear(3, 2, rng=[np.random.default_rng(i) for i in range(5)])
    >>> ensemble
    Linear(3, 2, seeds=5)
    >>> ensemble(np.ones((5, 4, 3))).shape
    (5, 4, 2)
    """

    per_seed = True
    can_skip_input_gradient = True

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        rng: Rng,
        init: Initializer = he,
        bias: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> None:
        check_integer("d_in", d_in)
        check_integer("d_out", d_out)
        weight, seeds = draw(rng, init, (d_in, d_out), (d_in, d_out), dtype)
        parameters = {"weight": weight}
        if bias:
            parameters["bias"] = np.zeros(with_seeds(seeds, (d_out,)), weight.dtype)
        super().__init__(parameters, seeds=seeds)
        self.d_in, self.d_out = d_in, d_out

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        self._check_dtype(x)
        if x.ndim < 2 + (self.seeds is not None) or x.shape[-1] != self.d_in:
            expected = "".join(f"{n}, " for n in with_seeds(self.seeds, ()))
            raise ValueError(
                f"{self._label}: x: expected shape ({expected}m, {self.d_in}), got {x.shape}"
            )
        rows = x.reshape(*with_seeds(self.seeds, (-1, self.d_in)))
        y = rows @ self.parameters["weight"]
        if "bias" in self.parameters:
            y += self.parameters["bias"][..., None, :]
        return y.reshape(*x.shape[:-1], self.d_out), (rows, x.shape)

    def _backward(self, dy: Array, cache: tuple, *, input_gradient: bool = True) -> Array | None:
        rows, shape = cache
        dy = dy.reshape(*rows.shape[:-1], self.d_out)
        self.gradients["weight"] = rows.swapaxes(-1, -2) @ dy
        if "bias" in self.parameters:
            self.gradients["bias"] = np.ones(dy.shape[-2], dy.dtype) @ dy  # faster than sum
        if not input_gradient:
            return None
        return (dy @ self.parameters["weight"].swapaxes(-1, -2)).reshape(shape)

    def _describe(self) -> list[str]:
        return [str(self.d_in), str(self.d_out)] + ["bias=False"] * ("bias" not in self.parameters)
