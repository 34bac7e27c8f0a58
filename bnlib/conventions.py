r"""Batch normalization from one framework to another: names, momentum, eps, running variance.

PyTorch, Keras, Flax and ONNX compute the same function and keep it in four ways. `CONVENTIONS`
is the table of what differs, `convert` takes the arrays and the options of one layer from any of
them to any other. Arrays are NumPy arrays; none of the frameworks is needed. See
:doc:`/book/conventions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Literal

import numpy as np

from bnlib._validation import check_eps, float_array, same_shape

__all__ = ["CONVENTIONS", "Convention", "convert"]

Framework = Literal["pytorch", "keras", "flax", "onnx"]
Arrays = Mapping[str, np.ndarray]
Options = Mapping[str, float]


@dataclass(frozen=True)
class Convention:
    """How one framework keeps a batch normalization layer.

    Attributes
    ----------
    names : tuple of str
        Of scale, shift, running mean and running variance, in the framework's order.
    eps_name : str
        Of the option.
    eps, momentum : float
        Defaults.
    momentum_weighs : {"new", "old"}
        Which value of a running statistic `momentum` is the weight of.
    unbiased : bool
        Whether the running variance has the divisor m - 1. What normalizes a mini-batch has the
        divisor m everywhere.
    channel_axis : int
        Where the channels are by default.
    """

    names: tuple[str, str, str, str]
    eps_name: str
    eps: float
    momentum: float
    momentum_weighs: Literal["new", "old"]
    unbiased: bool
    channel_axis: int


PYTORCH = Convention(
    ("weight", "bias", "running_mean", "running_var"), "eps", 1e-5, 0.1, "new", True, 1
)
KERAS = Convention(
    ("gamma", "beta", "moving_mean", "moving_variance"), "epsilon", 1e-3, 0.99, "old", False, -1
)
FLAX = Convention(("scale", "bias", "mean", "var"), "epsilon", 1e-5, 0.99, "old", False, -1)
ONNX = Convention(("scale", "B", "input_mean", "input_var"), "epsilon", 1e-5, 0.9, "old", False, 1)
CONVENTIONS: dict[str, Convention] = {
    "pytorch": PYTORCH,
    "keras": KERAS,
    "flax": FLAX,
    "onnx": ONNX,
}
"""The convention of each framework, under the names "pytorch", "keras", "flax" and "onnx"."""

COUNT = "num_batches_tracked"  # PyTorch's; the others do not count
START = 1.0  # running variance before the first mini-batch
ROUNDING = 1e-3  # relative error that running variances in float16 may have


def convert(
    arrays: Arrays,
    options: Options | None = None,
    *,
    source: Framework,
    target: Framework,
    m: int | None = None,
    steps: int | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    r"""Take a batch normalization layer from one framework to another.

    Without `m` the running variance is copied: in eval mode the converted layer is the same
    function. With `m` it becomes what the other framework would have collected over the same
    mini-batches, :eq:`eq-conventions-running`.

    Parameters
    ----------
    arrays : mapping of str to array, (d,)
        Under the names of `source`. Scale and shift may be absent, as with ``affine=False``.
    options : mapping of str to float, optional
        "momentum", and "eps" (PyTorch) or "epsilon"; what is absent has the default of `source`.
    source, target : {"pytorch", "keras", "flax", "onnx"}
    m : int, optional
        Values per channel in **every** mini-batch that the running variance averages: n h w for
        images. With sizes that varied no conversion exists.
    steps : int, optional
        Mini-batches averaged, starting from the variance 1. None: the start is forgotten.

    Returns
    -------
    arrays : dict of str to array, (d,)
        In the order of `target`, in the dtype they came in; for PyTorch with a
        ``num_batches_tracked`` of `steps`, else the one that came, else 0, so that
        ``load_state_dict`` is content.
    options : dict of str to float
        Both options, for the constructor of `target`. Always pass them on: the defaults differ.

    Raises
    ------
    TypeError
        An array is not float16, float32 or float64. Make float32 of bfloat16, which NumPy has not.
    ValueError
        An unknown framework, array or option; a missing statistic; shapes that differ or are not
        (d,); a variance that is not finite, or so negative that with eps it has no root (slightly
        negative ones, which Caffe writes, pass), or that the dtype cannot hold after the
        conversion; a momentum outside [0, 1], or None, which has no
        counterpart outside PyTorch; eps < 0; m < 2; steps < 0 or without m; a running variance
        below what is left of its start after so many steps.

    Notes
    -----
    A scale or shift that is absent stays absent (pass ``affine=False``, or ``scale=False`` and
    ``center=False``, or ``use_scale`` and ``use_bias``), except where the target cannot be
    without: ONNX, and PyTorch with a shift alone. There it becomes 1 or 0.

    Channels stay in their order. Features made by flattening images do not: Keras and Flax
    flatten (h, w, c), PyTorch (c, h, w).

    Examples
    --------
    >>> import numpy as np
    >>> from bnlib.conventions import convert
    >>> arrays = {"running_mean": np.array([3.0]), "running_var": np.array([4.0])}
    >>> converted, options = convert(arrays, source="pytorch", target="keras")
    >>> converted
    {'moving_mean': array([3.]), 'moving_variance': array([4.])}
    >>> options
    {'momentum': 0.9, 'epsilon': 1e-05}
    >>> convert(arrays, source="pytorch", target="keras", m=4)[0]["moving_variance"]
    array([3.])
    """
    old, new = _convention("source", source), _convention("target", target)
    values = _read(arrays, old)
    momentum, eps = _read_options(options or {}, old)
    _check_variances(old.names[3], values[3], eps)
    _check_steps(m, steps)
    weight = momentum if old.momentum_weighs == "new" else _complement(momentum)
    if m is not None:
        values[3] = _rescale(values[3], old.unbiased, new.unbiased, m, steps, weight)
        if not np.isfinite(values[3]).all():
            raise ValueError(
                f"{new.names[3]}: expected finite values, got a NaN or an infinity in "
                f"{values[3].dtype}; pass arrays of a wider dtype"
            )
    d = len(values[2])
    if new is ONNX or (new is PYTORCH and values[1] is not None):
        values[0] = np.ones(d, values[2].dtype) if values[0] is None else values[0]
    if new is ONNX and values[1] is None:
        values[1] = np.zeros(d, values[2].dtype)
    converted = {n: v for n, v in zip(new.names, values, strict=True) if v is not None}
    if new is PYTORCH:
        converted[COUNT] = np.array(arrays.get(COUNT, 0) if steps is None else steps)
    momentum = weight if new.momentum_weighs == "new" else _complement(weight)
    return converted, {"momentum": momentum, new.eps_name: eps}


def _convention(name: str, framework: str) -> Convention:
    if framework not in CONVENTIONS:
        raise ValueError(f"{name}: expected one of {[*CONVENTIONS]}, got {framework!r}")
    return CONVENTIONS[framework]


def _read(arrays: Arrays, convention: Convention) -> list[np.ndarray | None]:
    """Return copies of scale, shift, mean and variance; None for a parameter that is absent."""
    known = {*convention.names} | ({COUNT} if convention is PYTORCH else set())
    if unknown := {*arrays} - known:
        raise ValueError(f"arrays: expected names among {sorted(known)}, got {sorted(unknown)}")
    if missing := [name for name in convention.names[2:] if name not in arrays]:
        raise ValueError(f"arrays: expected running statistics {missing}, got {[*arrays]}")
    mean = float_array(convention.names[2], arrays[convention.names[2]])
    if mean.ndim != 1:
        raise ValueError(f"{convention.names[2]}: expected shape (d,), got {mean.shape}")
    values = [
        same_shape(n, arrays[n], mean.shape, "one value a channel").copy() if n in arrays else None
        for n in convention.names
    ]
    return values


def _read_options(options: Options, convention: Convention) -> tuple[float, float]:
    known = {"momentum": convention.momentum, convention.eps_name: convention.eps}
    if unknown := {*options} - {*known}:
        raise ValueError(f"options: expected names among {[*known]}, got {sorted(unknown)}")
    momentum, eps = (known | dict(options)).values()
    if momentum is None:
        raise ValueError(
            "momentum: expected a number, got None: only PyTorch has the cumulative average"
        )
    if not (isinstance(momentum, Real) and 0 <= momentum <= 1):
        raise ValueError(f"momentum: expected a number in [0, 1], got {momentum!r}")
    check_eps(eps)
    return float(momentum), float(eps)


def _check_variances(name: str, var: np.ndarray, eps: float) -> None:
    """Refuse variances of which eval mode cannot take the root; rounding may leave -1e-9."""
    if not (np.isfinite(var) & ((var >= 0) | (var.astype(np.float64) + eps > 0))).all():
        raise ValueError(f"{name}: expected finite variances >= 0, or > -eps = {-eps}, got {var}")


def _check_steps(m: int | None, steps: int | None) -> None:
    if m is not None and not (_is_integer(m) and m >= 2):
        raise ValueError(f"m: expected an int >= 2, the constant mini-batch size, got {m!r}")
    if steps is not None and (m is None or not _is_integer(steps) or steps < 0):
        raise ValueError(f"steps: expected an int >= 0 together with m, got {steps!r}, m = {m!r}")


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _complement(momentum: float) -> float:
    """Return 1 - momentum for the decimal number that is meant: 0.1 for 0.9, not 0.0999..."""
    return float(1 - Decimal(repr(momentum)))


def _rescale(
    var: np.ndarray, was: bool, becomes: bool, m: int, steps: int | None, weight: float
) -> np.ndarray:
    """Change the divisor of all that was averaged, but not of the start."""
    factor = {(True, False): (m - 1) / m, (False, True): m / (m - 1)}.get((was, becomes), 1.0)
    start = 0.0 if steps is None else START * (1 - weight) ** steps
    collected = var.astype(np.float64) - start
    if steps is not None and (collected < -ROUNDING * start).any():
        raise ValueError(
            f"steps: after {steps} of them the running variance is at least {start:.4g}, "
            f"what is left of its start; got {var.min():.4g}"
        )
    with np.errstate(over="ignore"):  # `convert` refuses what it makes infinite
        return (start + factor * np.maximum(collected, 0)).astype(var.dtype)
