r"""Loss and gradient along the direction of the gradient: how far a step can trust it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnlib.layers import Layer
from bnlib.layers.base import Array
from bnlib.measure._replica import Loss, flatten, gradient_at, norm, unflatten


class GradientPath(NamedTuple):
    r"""What n steps of different lengths along the gradient g would meet, each from the start.

    Attributes
    ----------
    start : array, shape () or (k,)
        Loss at the start.
    loss : array, shape (n,) or (n, k)
        Loss after each step, :math:`L(w - a g)`.
    distance : array, shape (n,) or (n, k)
        Length of each step, :math:`\lVert a g \rVert`.
    gradient_change : array, shape (n,) or (n, k)
        Gradient predictiveness, :math:`\lVert g(w) - g(w - a g) \rVert`; small if the gradient
        still holds after the step.
    """

    start: NDArray[np.float64]
    loss: NDArray[np.float64]
    distance: NDArray[np.float64]
    gradient_change: NDArray[np.float64]

    @property
    def loss_range(self) -> NDArray[np.float64]:
        """Largest minus smallest loss over the steps, () or (k,)."""
        return np.ptp(self.loss, axis=0)

    @property
    def smoothness(self) -> NDArray[np.float64]:
        """Effective beta-smoothness, the maximum of gradient change over distance, () or (k,).

        A lower bound of the Lipschitz constant of the gradient. NaN where the gradient is zero.
        """
        with np.errstate(invalid="ignore"):
            return np.max(self.gradient_change / self.distance, axis=0)


def gradient_path(
    network: Layer, loss: Loss, x: Array, target: ArrayLike, steps: ArrayLike
) -> GradientPath:
    r"""Measure the loss and the gradient after steps of several lengths along the gradient.

    :cite:t:`santurkar2018how`, section 3.1 and Figure 4.

    Parameters
    ----------
    network : Layer
        Network whose parameters w are the start.
    loss : callable
        (output, target) -> (loss, gradient of the output), as
        :func:`bnlib.layers.softmax_cross_entropy`.
    x, target : array, shape (m, ...) or (k, m, ...)
        The mini-batch; all losses and gradients are of this one.
    steps : array_like, shape (n,) or (n, k)
        Factors a > 0 of the gradient, in units of a learning rate; a column for each seed, or
        the same for all.

    Returns
    -------
    GradientPath

    Raises
    ------
    TypeError
        `network` is not a layer.
    ValueError
        `network` has no parameters, or `steps` has another shape, no entry, or one that is not
        positive and finite.

    Notes
    -----
    All is computed on copies: network, running statistics and generators stay exactly as they
    were. Cost: n + 1 forward and backward passes. For a quadratic loss with the Hessian H the
    gradient changes by a H g, so the smoothness is norm(H g) / norm(g) for all steps.

    Examples
    --------
    The loss (w - 0)^2 has the second derivative 2 everywhere:

    >>> import numpy as np
    >>> from bnlib.layers import Linear, mean_squared_error
    >>> from bnlib.measure import gradient_path
    >>> rng = np.random.default_rng(0)
    >>> network = Linear(1, 1, rng=rng, init=lambda *_: np.ones((1, 1)), bias=False)
    >>> x, target = np.array([[1.0]]), np.array([[0.0]])
    >>> path = gradient_path(network, mean_squared_error, x, target, steps=[0.25, 0.5])
    >>> path.loss
    array([0.25, 0.  ])
    >>> path.smoothness
    np.float64(2.0)
    """
    start, gradients = gradient_at(network, loss, x, target)
    seeds, parameters = network.seeds, network.parameters
    steps = _checked_steps(steps, seeds)
    w, g = flatten(parameters, seeds), flatten(gradients, seeds)
    losses, distances, changes = [], [], []
    for a in steps:
        ag = a[..., None] * g
        there = unflatten(w - ag, parameters, seeds)
        value, moved = gradient_at(network, loss, x, target, there)
        losses.append(value)
        distances.append(norm(ag))
        changes.append(norm(g - flatten(moved, seeds)))
    return GradientPath(
        *(np.asarray(a, dtype=np.float64) for a in (start, losses, distances, changes))
    )


def _checked_steps(steps: ArrayLike, seeds: int | None) -> NDArray[np.float64]:
    """Return the steps with the shape (n,) or, for k seeds, (n, k) or (n, 1)."""
    steps = np.asarray(steps, dtype=float)
    fits = steps.ndim == 1 or (seeds is not None and steps.ndim == 2 and steps.shape[1] == seeds)
    if not fits or steps.size == 0:
        expected = "(n,)" if seeds is None else f"(n,) or (n, {seeds})"
        raise ValueError(f"steps: expected shape {expected} with n > 0, got {steps.shape}")
    if not ((steps > 0) & (steps < np.inf)).all():
        raise ValueError(f"steps: expected positive, finite numbers, got {steps.tolist()}")
    return steps[:, None] if seeds is not None and steps.ndim == 1 else steps
