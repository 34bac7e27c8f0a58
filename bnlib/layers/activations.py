"""Activation functions, and Flatten."""

from __future__ import annotations

import numpy as np

from bnlib._validation import check_integer
from bnlib.layers.base import Array, Layer


class ReLU(Layer):
    r"""Rectifier, :math:`y = \max(x, 0)`, element by element.

    Notes
    -----
    dL/dx = dL/dy where x > 0, else 0 (also at x = 0, as in PyTorch).

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import ReLU
    >>> relu = ReLU()
    >>> relu(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    >>> relu.backward(np.array([[3.0, 3.0]]))
    array([[0., 3.]])
    """

    def _forward(self, x: Array) -> tuple[Array, Array]:
        y = x.clip(0, np.inf)  # three times faster than np.maximum
        return y, y

    def _backward(self, dy: Array, y: Array) -> Array:
        dx = (y > 0).astype(dy.dtype)  # np.where is ten times slower
        dx *= dy
        return dx


class Sigmoid(Layer):
    r"""Logistic function, :math:`y = 1 / (1 + e^{-x})`, element by element.

    Notes
    -----
    dL/dx = y (1 - y) dL/dy. Small outputs keep their relative accuracy, which a form with tanh
    would lose.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Sigmoid
    >>> sigmoid = Sigmoid()
    >>> sigmoid(np.array([[0.0, -1000.0]]))
    array([[0.5, 0. ]])
    >>> sigmoid.backward(np.array([[1.0, 1.0]]))
    array([[0.25, 0.  ]])
    """

    def _forward(self, x: Array) -> tuple[Array, Array]:
        y = np.negative(x)
        with np.errstate(over="ignore"):  # 1 / (1 + inf) = 0 is right
            np.exp(y, out=y)
        y += 1
        np.divide(1, y, out=y)
        return y, y

    def _backward(self, dy: Array, y: Array) -> Array:
        dx = 1 - y
        dx *= y
        dx *= dy
        return dx


class Tanh(Layer):
    r"""Hyperbolic tangent, :math:`y = \tanh(x)`, element by element.

    Notes
    -----
    dL/dx = (1 - y^2) dL/dy.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Tanh
    >>> tanh = Tanh()
    >>> tanh(np.array([[0.0, 100.0]]))
    array([[0., 1.]])
    >>> tanh.backward(np.array([[1.0, 1.0]]))
    array([[1., 0.]])
    """

    def _forward(self, x: Array) -> tuple[Array, Array]:
        y = np.tanh(x)
        return y, y

    def _backward(self, dy: Array, y: Array) -> Array:
        dx = y * y
        np.subtract(1, dx, out=dx)
        dx *= dy
        return dx


class Flatten(Layer):
    """Join the last axes into one: images to vectors.

    Parameters
    ----------
    axes : int
        Number of axes to join; the default is for images (n, c, h, w) or (k, n, c, h, w).

    Raises
    ------
    TypeError
        If ``axes`` is no integer.
    ValueError
        If ``axes`` is not positive, or the input has fewer axes.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.layers import Flatten
    >>> Flatten()(np.zeros((10, 3, 8, 8))).shape
    (10, 192)
    """

    def __init__(self, axes: int = 3) -> None:
        check_integer("axes", axes)
        super().__init__()
        self.axes = axes

    def _forward(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        if x.ndim < self.axes:
            raise ValueError(f"{self._label}: x: expected at least {self.axes} axes, got {x.shape}")
        kept = x.shape[: x.ndim - self.axes]
        joined = int(np.prod(x.shape[x.ndim - self.axes :]))
        return x.reshape(*kept, joined), x.shape

    def _backward(self, dy: Array, shape: tuple[int, ...]) -> Array:
        return dy.reshape(shape)

    def _describe(self) -> list[str]:
        return [] if self.axes == 3 else [f"axes={self.axes}"]
