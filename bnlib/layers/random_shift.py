"""A layer that shifts its input at random, by other numbers at each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnlib.layers.base import Layer

SHIFT, SCALE, JITTER = 0.5, 0.25, 0.1
"""n_mu, n_sigma - 1 and r of :class:`RandomShift`, unless told otherwise."""


class RandomShift(Layer):
    r"""Shift and scale each unit at random, by other numbers in each forward pass.

    In train mode, for each unit :math:`\mu \sim U(-n_\mu, n_\mu)` and
    :math:`\sigma \sim U(1, n_\sigma)`; then for each value :math:`b \sim U(\mu - r, \mu + r)`,
    :math:`s \sim N(\sigma, r^2)` and :math:`y = s x + b`. In eval mode y is x times the mean of s.

    Parameters
    ----------
    rngs : sequence of k numpy.random.Generator
        One a seed.
    rates : int
        How many networks of each seed share its draws: the input is (rates k, m, d), where entry i
        of the first axis has seed i mod k.
    n_mu, n_sigma, r : float
        Range of the shifts, largest scale, and jitter of the single values.

    Notes
    -----
    After :cite:t:`santurkar2018how`, who put it behind batch norm.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import RandomShift
    >>> layer = RandomShift([np.random.default_rng(0)], n_mu=1.0, n_sigma=1.0, r=0.0)
    >>> layer(np.zeros((1, 2, 3))).round(2)
    array([[[ 0.27, -0.46, -0.92],
            [ 0.27, -0.46, -0.92]]])
    """

    per_seed = True

    def __init__(
        self,
        rngs: Sequence[np.random.Generator],
        rates: int = 1,
        *,
        n_mu: float = SHIFT,
        n_sigma: float = 1 + SCALE,
        r: float = JITTER,
    ) -> None:
        super().__init__(seeds=len(rngs) * rates)
        self.rngs, self.rates, self.n_mu, self.n_sigma, self.r = rngs, rates, n_mu, n_sigma, r

    def _forward(self, x: NDArray) -> tuple[NDArray, NDArray]:
        if not self.training:
            scale = np.asarray((1 + self.n_sigma) / 2, x.dtype)
            return scale * x, scale
        drawn = np.array([self._draw(rng, x.shape[1:]) for rng in self.rngs], x.dtype)
        scale, shift = np.tile(drawn, (self.rates, 1, 1, 1)).swapaxes(0, 1)
        return scale * x + shift, scale

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[NDArray, NDArray]:
        mu = rng.uniform(-self.n_mu, self.n_mu, shape[1])
        sigma = rng.uniform(1, self.n_sigma, shape[1])
        scale = sigma + self.r * rng.standard_normal(shape)
        return scale, mu + rng.uniform(-self.r, self.r, shape)

    def _backward(self, dy: NDArray, cache: NDArray) -> NDArray:
        return cache * dy
