r"""Curvature of the loss: products with the Hessian, and its largest eigenvalue."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from bnlib.layers import Layer
from bnlib.layers.base import Array
from bnlib.measure._replica import Loss, check_network, flatten, gradient_at, unflatten


def hessian_vector_product(
    network: Layer,
    loss: Loss,
    x: Array,
    target: ArrayLike,
    vector: Mapping[str, Array],
    *,
    h: float = 1e-5,
) -> dict[str, Array]:
    r"""Multiply the Hessian of the loss by a vector, with central differences of the gradient.

    .. math:: H v \approx \frac{g(w + r v) - g(w - r v)}{2 r}, \qquad r = h / \lVert v \rVert

    Parameters
    ----------
    network : Layer
        Its parameters w are float64.
    loss : callable
        (output, target) -> (loss, gradient of the output), as
        :func:`bnlib.layers.softmax_cross_entropy`.
    x, target : array, shape (m, ...) or (k, m, ...)
        The mini-batch.
    vector : mapping of str to array, shape of each parameter
        One array for each parameter, with its name and shape. With a seed axis each seed has its
        own Hessian and its own vector.
    h : float
        Length of the displacement, in units of the parameters. The truncation error grows as
        h**2, the rounding error as 1/h.

    Returns
    -------
    dict of str to array
        H v, in the form of `vector`.

    Raises
    ------
    TypeError
        `network` is not a layer, or its parameters are not float64.
    ValueError
        `network` has no parameters, names or shapes of `vector` are not those of the parameters,
        or h <= 0.

    Notes
    -----
    The approximation that :cite:t:`pearlmutter1994fast` starts from. Exact, but for rounding, if
    the loss is quadratic. Where the displacement crosses the kink of a ReLU, the difference
    contains its jump, divided by 2 r. All is computed on copies: the network stays as it was.
    Cost: two forward and backward passes.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Linear, mean_squared_error
    >>> from bnlib.measure import hessian_vector_product
    >>> network = Linear(1, 1, rng=np.random.default_rng(0), bias=False)
    >>> x, target = np.array([[3.0]]), np.array([[1.0]])  # loss (3 w - 1)^2
    >>> v = {"weight": np.array([[1.0]])}
    >>> hessian_vector_product(network, mean_squared_error, x, target, v)["weight"].round(6)
    array([[18.]])
    """
    _check(network, h)
    parameters, seeds = network.parameters, network.seeds
    shapes = {name: p.shape for name, p in parameters.items()}
    given = {name: np.shape(v) for name, v in vector.items()}
    if given != shapes:
        raise ValueError(f"vector: expected arrays of the shapes {shapes}, got {given}")
    v = flatten({name: vector[name] for name in parameters}, seeds)
    return unflatten(_product(network, loss, x, target, v, h), parameters, seeds)


def top_hessian_eigenvalue(
    network: Layer,
    loss: Loss,
    x: Array,
    target: ArrayLike,
    *,
    h: float = 1e-5,
    tol: float = 1e-4,
) -> NDArray[np.float64]:
    r"""Compute the largest eigenvalue of the Hessian of the loss by Lanczos iteration.

    Gradient descent on a quadratic is stable as long as the learning rate is below 2 divided by
    this value.

    Parameters
    ----------
    network : Layer
        Its parameters are float64.
    loss : callable
        (output, target) -> (loss, gradient of the output), as
        :func:`bnlib.layers.softmax_cross_entropy`.
    x, target : array, shape (m, ...) or (k, m, ...)
        The mini-batch.
    h : float
        Length of the displacement, as in :func:`hessian_vector_product`.
    tol : float
        Relative accuracy at which the iteration ends.

    Returns
    -------
    array, shape () or (k,)
        Largest eigenvalue (by its sign, not by its size) of each seed.

    Raises
    ------
    TypeError
        `network` is not a layer, or its parameters are not float64.
    ValueError
        `network` has no parameters, h <= 0 or tol < 0.
    scipy.sparse.linalg.ArpackNoConvergence
        The iteration did not converge.

    Notes
    -----
    :func:`scipy.sparse.linalg.eigsh` (:cite:t:`virtanen2020scipy`), from a fixed start vector, so
    that two calls agree. The Hessian itself is never built: 20 to some hundred products with it
    are enough. Seeds are solved one after the other, although a product computes all of them: k
    seeds take k**2 times the time of one, so measure few seeds or few steps.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Linear, mean_squared_error
    >>> from bnlib.measure import top_hessian_eigenvalue
    >>> network = Linear(2, 1, rng=np.random.default_rng(0), bias=False)
    >>> x, target = np.diag([3.0, 1.0]), np.zeros((2, 1))  # loss (9 w1^2 + w2^2) / 2
    >>> top_hessian_eigenvalue(network, mean_squared_error, x, target).round(4)
    np.float64(9.0)
    """
    _check(network, h)
    if not tol >= 0:
        raise ValueError(f"tol: expected a number >= 0, got {tol}")
    shape = flatten(network.parameters, network.seeds).shape
    size = shape[-1]
    start = np.random.default_rng(0).standard_normal(size)

    def top(seed: int | tuple[()]) -> float:
        def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
            vectors = np.broadcast_to(v.ravel(), shape)  # the Hessians of the seeds are separate
            return _product(network, loss, x, target, vectors, h)[seed]

        if size == 1:  # ARPACK wants two dimensions
            return product(np.ones(1))[0]
        hessian = LinearOperator((size, size), matvec=product, dtype=np.float64)
        return eigsh(hessian, k=1, which="LA", v0=start, tol=tol, return_eigenvectors=False)[0]

    seeds = [()] if network.seeds is None else range(network.seeds)
    return np.array([top(seed) for seed in seeds]).reshape(shape[:-1])[()]


def _check(network: Layer, h: float) -> None:
    check_network(network)
    dtypes = {p.dtype for p in network.parameters.values()}
    if dtypes != {np.dtype(np.float64)}:
        raise TypeError(f"network: expected float64 parameters, got {sorted(map(str, dtypes))}")
    if not 0 < h < np.inf:
        raise ValueError(f"h: expected a finite length > 0, got {h}")


def _product(
    network: Layer,
    loss: Loss,
    x: Array,
    target: ArrayLike,
    v: NDArray[np.float64],
    h: float,
) -> NDArray[np.float64]:
    """H v of flat vectors; zero where v is."""
    parameters, seeds = network.parameters, network.seeds
    w = flatten(parameters, seeds)
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    step = np.divide(h, length, out=np.zeros_like(length), where=length > 0)
    ahead, back = (
        flatten(
            gradient_at(network, loss, x, target, unflatten(w + r * v, parameters, seeds))[1],
            seeds,
        )
        for r in (step, -step)
    )
    scale = np.divide(length, 2 * h)
    return (ahead - back) * scale
