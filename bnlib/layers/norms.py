"""What the normalization layers share: gamma and beta, and the checks of their input."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from bnlib._validation import check_eps, check_integer
from bnlib.layers.base import Array, Layer, float_dtype, with_seeds


class Norm(Layer):
    """A normalizer with an optional scale ``gamma`` (first ones) and shift ``beta`` (zeros)."""

    per_seed = True
    _names: tuple[str, ...] = ("gamma", "beta")

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        eps: float,
        affine: bool,
        seeds: int | None,
        dtype: DTypeLike,
    ) -> None:
        check_eps(eps)
        if seeds is not None:
            check_integer("seeds", seeds)
        self.dtype = float_dtype(dtype)
        self._shape = with_seeds(seeds, shape)
        initial = {"gamma": np.ones, "beta": np.zeros}
        names = self._names if affine else ()
        super().__init__(
            {name: initial[name](self._shape, self.dtype) for name in names}, seeds=seeds
        )
        self.eps, self.affine = float(eps), affine

    def _check(self, x: Array, form: str, fits: bool) -> None:
        if x.dtype != self.dtype:
            raise TypeError(
                f"{self._label}: x: expected the layer's dtype {self.dtype}, got {x.dtype}"
            )
        if not fits:
            leading = "" if self.seeds is None else f"{self.seeds}, "
            raise ValueError(f"{self._label}: x: expected shape ({leading}{form}), got {x.shape}")

    def _check_channels(self, x: Array, channels: int) -> None:
        axis = len(with_seeds(self.seeds, (0,)))
        form = f"n, {channels}, ..."
        self._check(x, form, x.ndim > axis and x.shape[axis] == channels)

    @property
    def _affine(self) -> list[Array | None]:
        return [self.parameters.get(name) for name in self._names]

    def _keep(self, *gradients: Array | None) -> None:
        for name, gradient in zip(self._names, gradients, strict=True):
            if gradient is not None and name in self.parameters:
                self.gradients[name] = gradient

    def _options(self) -> list[str]:
        return ["affine=False"] * (not self.affine)
