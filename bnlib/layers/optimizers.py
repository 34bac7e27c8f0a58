"""Gradient descent: SGD and Adam, with parameter groups and a learning rate for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bnlib._validation import check_eps
from bnlib.layers.base import Array, Layer


class Optimizer:
    """What all optimizers share: rates and decays by parameter, and working memory.

    Subclasses define ``_update(name, p, g, lr)``, which changes ``p`` in place and leaves ``g``
    as it is; weight decay has been added to ``g``.
    """

    def __init__(
        self,
        network: Layer,
        lr: ArrayLike,
        weight_decay: ArrayLike,
        groups: Sequence[Mapping[str, Any]],
    ) -> None:
        if not isinstance(network, Layer):
            raise TypeError(f"network: expected a Layer, got {network!r}")
        self.network = network
        self._own = _by_name(network, groups)
        self._decays = self._by_parameter("weight_decay", weight_decay)
        self.lr = lr
        parameters = network.parameters.values()
        self._memory = {
            dtype: np.empty(max(p.size for p in parameters if p.dtype == dtype), dtype)
            for dtype in {p.dtype for p in parameters}
        }

    @property
    def lr(self) -> ArrayLike:
        """Learning rate of the parameters whose group has none; assign to it for a schedule."""
        return self._lr

    @lr.setter
    def lr(self, value: ArrayLike) -> None:
        self._rates = self._by_parameter("lr", value)
        self._lr = value

    def step(self) -> None:
        """Update the network's parameters in place from its gradients."""
        gradients = self.network.gradients
        for name, p in self.network.parameters.items():
            g, decay = gradients[name], self._decays[name]
            if isinstance(decay, np.ndarray) or decay > 0:
                g = g + decay * p
            self._update(name, p, g, self._rates[name])

    def _update(self, name: str, p: Array, g: Array, lr: float | Array) -> None:
        raise NotImplementedError

    def _zeros(self) -> dict[str, Array]:
        return {name: np.zeros_like(p) for name, p in self.network.parameters.items()}

    def _scratch(self, p: Array) -> Array:
        """Working memory like p; all parameters share it."""
        return self._memory[p.dtype][: p.size].reshape(p.shape)

    def _by_parameter(self, option: str, default: ArrayLike) -> dict[str, float | Array]:
        per_seed(option, default, self.network.seeds)
        values = {}
        for name, p in self.network.parameters.items():
            value = per_seed(option, self._own[name].get(option, default), self.network.seeds)
            if isinstance(value, np.ndarray):
                value = value.astype(p.dtype).reshape(-1, *[1] * (p.ndim - 1))
            values[name] = value
        return values


def _by_name(network: Layer, groups: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Options that the groups set, for each parameter."""
    own: dict[str, dict[str, Any]] = {name: {} for name in network.parameters}
    seen: set[str] = set()
    for group in groups:
        options = {key: value for key, value in group.items() if key != "names"}
        if "names" not in group or not options.keys() <= {"lr", "weight_decay"}:
            raise ValueError(
                f"groups: expected the keys names, lr, weight_decay, got {sorted(group)}"
            )
        for name in group["names"]:
            if name not in own:
                raise ValueError(f"groups: unknown parameter {name!r}; there are {list(own)}")
            if name in seen:
                raise ValueError(f"groups: parameter {name!r} is listed twice")
            seen.add(name)
            own[name] = options
    return own


def per_seed(option: str, value: ArrayLike, seeds: int | None) -> float | Array:
    """Check a number, or one for each seed."""
    array = np.asarray(value, dtype=float)
    if array.ndim and array.shape != (seeds,):
        expected = "a number" if seeds is None else f"a number or an array of shape {(seeds,)}"
        raise ValueError(f"{option}: expected {expected}, got shape {array.shape}")
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError(f"{option}: expected finite numbers >= 0, got {value!r}")
    return array if array.ndim else float(array)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay.

    Parameters
    ----------
    network : Layer
        The network whose ``parameters`` are updated from its ``gradients``.
    lr : float or array, shape (k,)
        Learning rate, or one for each seed.
    momentum : float
        Factor of the old velocity, 0 <= momentum < 1.
    nesterov : bool
        Whether to look ahead along the velocity; needs momentum.
    weight_decay : float or array, shape (k,)
        Its multiple of the parameter is added to the gradient.
    groups : sequence of dict
        Each has ``names``, a list of parameters, and ``lr`` or ``weight_decay`` or both, which
        hold for these parameters instead of the defaults.

    Raises
    ------
    TypeError
        If ``network`` is not a layer.
    ValueError
        If a number is out of range, an array does not have one entry a seed, or a group names an
        unknown parameter, one that another group names, or an unknown option.

    Notes
    -----
    As ``torch.optim.SGD`` with dampening 0: g <- g + wd p; v <- momentum v + g, from v = 0; then
    p <- p - lr v, or with Nesterov p <- p - lr (g + momentum v).

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import SGD, Linear
    >>> layer = Linear(1, 1, rng=np.random.default_rng(0), init=lambda *_: np.ones((1, 1)))
    >>> optimizer = SGD(layer, 0.5, groups=[{"names": ["bias"], "lr": 0.0}])
    >>> _ = layer(np.array([[2.0]]))
    >>> _ = layer.backward(np.array([[1.0]]))
    >>> optimizer.step()
    >>> layer.parameters["weight"], layer.parameters["bias"]
    (array([[0.]]), array([0.]))
    """

    def __init__(
        self,
        network: Layer,
        lr: ArrayLike,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: ArrayLike = 0.0,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum!r}")
        if nesterov and momentum == 0:
            raise ValueError("momentum: expected more than 0 with nesterov, got 0")
        super().__init__(network, lr, weight_decay, groups)
        self.momentum, self.nesterov = float(momentum), nesterov
        self._velocity = self._zeros() if momentum else {}

    def _update(self, name: str, p: Array, g: Array, lr: float | Array) -> None:
        scratch = self._scratch(p)
        if self.momentum:
            velocity = self._velocity[name]
            velocity *= self.momentum
            velocity += g
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=scratch)
                scratch += g
                g = scratch
            else:
                g = velocity
        np.multiply(g, lr, out=scratch)
        p -= scratch


class Adam(Optimizer):
    """Adam: steps scaled by running moments of the gradient.

    Parameters
    ----------
    network : Layer
        The network whose ``parameters`` are updated from its ``gradients``.
    lr : float or array, shape (k,)
        Learning rate, or one for each seed.
    betas : pair of float
        Weights of the old first and second moment, each in [0, 1).
    eps : float
        Added to the root of the second moment.
    weight_decay : float or array, shape (k,)
        Its multiple of the parameter is added to the gradient.
    groups : sequence of dict
        Each has ``names``, a list of parameters, and ``lr`` or ``weight_decay`` or both, which
        hold for these parameters instead of the defaults.

    Raises
    ------
    TypeError
        If ``network`` is not a layer.
    ValueError
        If a number is out of range, an array does not have one entry a seed, or a group names an
        unknown parameter, one that another group names, or an unknown option.

    Notes
    -----
    :cite:t:`kingma2015adam`, Algorithm 1; as ``torch.optim.Adam``. The weight decay passes through
    the moments (it is not the decoupled one of AdamW).

    Examples
    --------
    The first step has the size of the learning rate whatever the gradient:

    >>> import numpy as np
    >>> from bnlib.layers import Adam, Linear
    >>> layer = Linear(1, 1, rng=np.random.default_rng(0), init=lambda *_: np.ones((1, 1)))
    >>> optimizer = Adam(layer, 0.25)
    >>> _ = layer(np.array([[3.0]]))
    >>> _ = layer.backward(np.array([[1.0]]))
    >>> optimizer.step()
    >>> layer.parameters["weight"].round(6)
    array([[0.75]])
    """

    def __init__(
        self,
        network: Layer,
        lr: ArrayLike = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: ArrayLike = 0.0,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {betas!r}")
        check_eps(eps)
        super().__init__(network, lr, weight_decay, groups)
        self.betas, self.eps = (float(betas[0]), float(betas[1])), float(eps)
        self._first, self._second = self._zeros(), self._zeros()
        self._steps = 0

    def step(self) -> None:
        """Update the network's parameters in place from its gradients."""
        self._steps += 1
        super().step()

    def _update(self, name: str, p: Array, g: Array, lr: float | Array) -> None:
        (beta1, beta2), first, second = self.betas, self._first[name], self._second[name]
        scratch = self._scratch(p)
        np.multiply(g, 1 - beta1, out=scratch)
        first *= beta1
        first += scratch
        np.multiply(g, g, out=scratch)
        scratch *= 1 - beta2
        second *= beta2
        second += scratch
        np.sqrt(second, out=scratch)
        scratch *= (1 - beta2**self._steps) ** -0.5
        scratch += self.eps
        np.divide(first, scratch, out=scratch)
        scratch *= lr / (1 - beta1**self._steps)
        p -= scratch
