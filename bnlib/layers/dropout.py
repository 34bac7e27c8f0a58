"""Dropout."""

from __future__ import annotations

import numpy as np

from bnlib._validation import Rng, as_generators
from bnlib.layers.base import Array, Layer


class Dropout(Layer):
    """Set each entry to zero with probability ``p`` in train mode; do nothing in eval mode.

    Parameters
    ----------
    p : float
        Probability of a zero, 0 <= p < 1.
    rng : numpy.random.Generator or list of k of them
        Source of the masks. A list gives a leading seed axis, and each seed draws its mask from
        its own generator.

    Raises
    ------
    TypeError
        If ``rng`` is not a generator or a list of them.
    ValueError
        If ``p`` is not in [0, 1).

    Notes
    -----
    :cite:t:`srivastava2014dropout`, in the inverted form: what is kept is divided by 1 - p, so
    that the mean of the output is the input and eval mode is the identity. ``backward`` uses the
    mask of the last ``forward``.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Dropout
    >>> layer = Dropout(0.5, rng=np.random.default_rng(0))
    >>> layer(np.ones((2, 4)))
    array([[2., 0., 0., 0.],
           [2., 2., 2., 2.]])
    >>> layer.eval()(np.ones((1, 4)))
    array([[1., 1., 1., 1.]])
    """

    per_seed = True

    def __init__(self, p: float, *, rng: Rng) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"p: expected a number in [0, 1), got {p!r}")
        self._generators, seeds = as_generators(rng)
        super().__init__(seeds=seeds)
        self.p = float(p)

    def _forward(self, x: Array) -> tuple[Array, Array | None]:
        if not self.training or self.p == 0:
            return x, None
        mask = self._uniform(x)
        np.greater_equal(mask, self.p, out=mask, casting="unsafe")
        mask *= 1 / (1 - self.p)
        return x * mask, mask

    def _backward(self, dy: Array, mask: Array | None) -> Array:
        return dy if mask is None else dy * mask

    def _uniform(self, x: Array) -> Array:
        """Draw numbers in [0, 1), shape and dtype of x, each seed from its own generator."""
        dtype = np.float64 if x.dtype == np.float64 else np.float32
        u = np.empty(x.shape, dtype)
        for generator, part in zip(self._generators, [u] if self.seeds is None else u, strict=True):
            generator.random(out=part, dtype=dtype)
        return u.astype(x.dtype, copy=False)

    def _describe(self) -> list[str]:
        return [f"p={self.p:g}"]
