r"""Running mean and variance: what batch normalization uses in eval mode."""

from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from bnlib._validation import same_shape


class RunningStatistics:
    r"""Average of the batch statistics over training steps.

    .. math:: \mu \leftarrow (1 - \alpha)\,\mu + \alpha\,\mu_B, \qquad
        \sigma^2 \leftarrow (1 - \alpha)\,\sigma^2 + \alpha\,\tfrac{m}{m - 1}\,\sigma_B^2

    :eq:`eq-inference-running`; the unbiased variance is that of Algorithm 2, line 10 of
    :cite:t:`ioffe2015batch`.

    Parameters
    ----------
    mean, var : array, any shape
        Current estimates; copied.
    count : int
        Number of updates so far.

    Attributes
    ----------
    mean, var : array, shape of the given ones
    count : int

    Raises
    ------
    TypeError, ValueError
        `mean` and `var` are not float arrays of one shape with finite values, a variance is
        negative, or `count` is not an int >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.functional import RunningStatistics
    >>> running = RunningStatistics.initial((1,))
    >>> running.update(mean=np.array([2.0]), var=np.array([3.0]), n=4)
    >>> running.mean, running.var.round(3), running.count
    (array([0.2]), array([1.3]), 1)
    """

    def __init__(self, mean: np.ndarray, var: np.ndarray, count: int = 0) -> None:
        if not (isinstance(count, int | np.integer) and count >= 0):
            raise ValueError(f"count: expected an int >= 0, got {count!r}")
        mean, var = _as_statistics(mean, var, np.shape(mean))
        _refuse_non_finite(mean, var)
        self.mean, self.var = mean.copy(), var.copy()
        self.count = int(count)

    @classmethod
    def initial(cls, shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> "RunningStatistics":
        """Return mean 0 and variance 1 of `shape`, before any update."""
        return cls(np.zeros(shape, dtype), np.ones(shape, dtype))

    def update(
        self,
        mean: np.ndarray,
        var: np.ndarray,
        n: int,
        momentum: float | None = 0.1,
        unbiased: bool = True,
        *,
        momentum_weighs: Literal["new", "old"] = "new",
    ) -> None:
        r"""Take in the statistics of one mini-batch.

        Parameters
        ----------
        mean, var : array, shape of the estimates
            Batch mean and **biased** batch variance (divisor n).
        n : int
            Values that each of them is an average of: m, or n h w after a convolution.
        momentum : float in [0, 1], or None
            Weight :math:`\alpha` of the new value (PyTorch). None gives every mini-batch so far
            the same weight: a cumulative average.
        unbiased : bool
            Average n / (n - 1) var, as PyTorch and the paper do; False averages var itself, as
            Keras, Flax and ONNX do.
        momentum_weighs : {"new", "old"}
            "old" reads `momentum` as the weight of the old value (Keras, Flax, ONNX).

        Raises
        ------
        TypeError, ValueError
            Wrong shape or dtype, a value that is not finite, a negative variance, n < 1, n = 1
            with `unbiased`, or a momentum outside [0, 1]. The estimates stay as they were.
        """
        mean, var = _as_statistics(mean, var, self.mean.shape)
        if n < 1 + unbiased:
            raise ValueError(f"n: expected at least {1 + unbiased} values per channel, got {n}")
        if momentum_weighs not in ("new", "old"):
            raise ValueError(f"momentum_weighs: expected 'new' or 'old', got {momentum_weighs!r}")
        if momentum is None:
            weight = 1 / (self.count + 1)
        elif 0 <= momentum <= 1:
            weight = momentum if momentum_weighs == "new" else 1 - momentum
        else:
            raise ValueError(f"momentum: expected a number in [0, 1] or None, got {momentum}")
        correction = n / (n - 1) if unbiased else 1.0
        dtype = self.mean.dtype
        new_mean = ((1 - weight) * self.mean + weight * mean).astype(dtype, copy=False)
        new_var = ((1 - weight) * self.var + weight * correction * var).astype(dtype, copy=False)
        # A batch that is not finite makes estimates that are not, whatever its weight.
        _refuse_non_finite(new_mean, new_var)
        self.mean, self.var, self.count = new_mean, new_var, self.count + 1

    def __repr__(self) -> str:
        return f"RunningStatistics(mean={self.mean}, var={self.var}, count={self.count})"


def _as_statistics(
    mean: np.ndarray, var: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float arrays of `shape`; refuse negative variances."""
    mean = same_shape("mean", mean, shape, "the shape of the running statistics")
    var = same_shape("var", var, shape, "the shape of the running statistics")
    if (var < 0).any():
        raise ValueError(f"var: expected variances >= 0, got {var.min()}")
    return mean, var


def _refuse_non_finite(mean: np.ndarray, var: np.ndarray) -> None:
    for name, array in (("mean", mean), ("var", var)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite values, got a NaN or an infinity")
