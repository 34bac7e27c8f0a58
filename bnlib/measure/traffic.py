"""Count what a NumPy function reads, writes and computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Traffic(NamedTuple):
    """Elements that pass between memory and processor, and arithmetic operations."""

    read: int  # elements of operands
    written: int  # elements of results
    operations: int  # one an element of a result; in a sum, one an element of the operand

    def intensity(self, itemsize: int) -> float:
        """Return the arithmetic intensity: operations a byte moved.

        Parameters
        ----------
        itemsize : int
            Bytes an element: 4 in float32.
        """
        return self.operations / (itemsize * (self.read + self.written))


def count_traffic(f: Callable[..., object], *arrays: np.ndarray) -> Traffic:
    """Call `f` and count the work of its NumPy operations, one pass over memory for each.

    Parameters
    ----------
    f : callable
        Takes the arrays and computes with arithmetic, `sum`, `mean` and other universal functions.
    *arrays : array, any shape
        The arguments of `f`. What is computed from them is counted too.

    Returns
    -------
    Traffic

    Raises
    ------
    TypeError
        An argument is not a NumPy array.

    Notes
    -----
    A model, and an upper limit: it holds for arrays that are much larger than the processor's
    cache, and for operations that run one after the other, as in NumPy. An array that is both
    operands of one operation is read once.

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.measure import count_traffic
    >>> count_traffic(lambda a, b: a * b + 1, np.ones(10), np.ones(10))
    Traffic(read=30, written=20, operations=20)
    """
    for array in arrays:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"arrays: expected NumPy arrays, got {type(array).__name__}")
    counts = np.zeros(3, int)
    counted = [array.view(_Counted) for array in arrays]
    for array in counted:
        array.counts = counts
    f(*counted)
    return Traffic(*counts.tolist())


class _Counted(np.ndarray):
    """An array whose universal functions add to `counts`, in the order of `Traffic`."""

    counts: np.ndarray | None = None

    def __array_finalize__(self, source: object) -> None:
        self.counts = getattr(source, "counts", None)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple = (), **options: Any
    ) -> Any:
        arguments = [*inputs, *out]
        counts = next(
            a.counts for a in arguments if isinstance(a, _Counted) and a.counts is not None
        )
        plain = [np.asarray(a) if isinstance(a, _Counted) else a for a in inputs]
        if out:
            options["out"] = tuple(np.asarray(a) for a in out)
        result = np.asarray(getattr(ufunc, method)(*plain, **options))
        read = sum({id(a): np.size(a) for a in inputs if np.ndim(a)}.values())
        operations = np.size(inputs[0]) if method == "reduce" else result.size
        counts += read, result.size, operations
        counted = result.view(_Counted)
        counted.counts = counts
        return counted
