"""Checks of arguments: every error names the argument, what was expected and what came."""

import difflib
from collections.abc import Iterable, Sequence
from numbers import Real

import numpy as np

FLOATS = {np.dtype(name) for name in ("float16", "float32", "float64")}
Axes = int | Sequence[int] | None
Rng = np.random.Generator | Sequence[np.random.Generator]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the guess that an error adds to an unknown name, after a space, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def float_array(name: str, value: np.ndarray) -> np.ndarray:
    """Return `value` as an array of float16, float32 or float64."""
    array = np.asarray(value)
    if array.dtype not in FLOATS:
        raise TypeError(f"{name}: expected float16, float32 or float64, got {array.dtype}")
    return array


def working_dtype(x: np.ndarray) -> np.dtype:
    """Return the dtype to compute in: that of `x`, but float32 at least."""
    return np.dtype(np.float32) if x.dtype == np.float16 else x.dtype


def check_eps(eps: float) -> None:
    """Refuse an eps that is negative or not finite."""
    if not (isinstance(eps, Real) and 0 <= eps < np.inf):
        raise ValueError(f"eps: expected a finite number >= 0, got {eps!r}")


def check_integer(name: str, value: int, *, at_least: int = 1, at_most: int | None = None) -> None:
    """Raise unless `value` is an integer within the limits.

    Raises
    ------
    TypeError
        If it is no integer.
    ValueError
        If it is too small or too large.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < at_least or (at_most is not None and value > at_most):
        limits = f"at least {at_least}" + (f" and at most {at_most}" if at_most is not None else "")
        raise ValueError(f"{name}: expected {limits}, got {value}")


def check_increasing(name: str, numbers: Sequence[float]) -> None:
    """Raise ValueError unless there are numbers, all positive, and they increase."""
    if not numbers or sorted({*numbers}) != [*numbers] or numbers[0] <= 0:
        raise ValueError(f"{name}: expected increasing positive numbers, got {numbers}")


def normalized_axes(axes: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """Return `axes` as a sorted tuple of non-negative ints."""
    given = tuple(axes) if np.iterable(axes) else (axes,)
    if not given:
        raise ValueError("axes: expected at least one axis to average over, got none")
    for axis in given:
        if not isinstance(axis, int | np.integer):
            raise TypeError(f"axes: expected integers, got {axis!r}")
        if not -ndim <= axis < ndim:
            raise ValueError(f"axes: {axis} is out of range for an array of {ndim} axes")
    result = tuple(sorted(int(axis) % ndim for axis in given))
    if len(set(result)) < len(result):
        raise ValueError(f"axes: expected distinct axes, got {tuple(given)}")
    return result


def same_shape(name: str, value: np.ndarray, shape: tuple[int, ...], like: str) -> np.ndarray:
    """Return `value` as a float array; it must have `shape`, which is that of `like`."""
    array = float_array(name, value)
    if array.shape != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)} ({like}), got {array.shape}")
    return array


def seed_axes(x: np.ndarray, parameter: np.ndarray | None, own: int) -> int:
    """Count the leading seed axes that `parameter` shares with `x`, beyond its `own` axes."""
    if parameter is None:
        return 0
    shape = np.shape(parameter)
    seeds = max(len(shape) - own, 0)
    return seeds if shape[:seeds] == x.shape[:seeds] else 0


def channel_axes(x: np.ndarray, axes: Axes, parameter: np.ndarray | None) -> tuple[int, ...]:
    """Axes to average over: `axes`, or all but the seed axes of `parameter` and the channels."""
    if axes is not None:
        return normalized_axes(axes, x.ndim)
    seeds = seed_axes(x, parameter, own=1)
    if x.ndim < seeds + 2:
        wanted = "(m, d)" if seeds == 0 else f"(k, m, d), as a parameter has {seeds} seed axes,"
        raise ValueError(f"x: expected shape {wanted} or with spatial axes behind, got {x.shape}")
    return tuple(axis for axis in range(x.ndim) if axis >= seeds and axis != seeds + 1)


def kept_sizes(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of the axes that are not averaged over."""
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def as_generators(rng: Rng) -> tuple[list[np.random.Generator], int | None]:
    """Return the generators in a list, and the number of seeds (None for a bare generator)."""
    if isinstance(rng, np.random.Generator):
        return [rng], None
    if (
        not isinstance(rng, Sequence)
        or not rng
        or not all(isinstance(r, np.random.Generator) for r in rng)
    ):
        raise TypeError(
            f"rng: expected a numpy.random.Generator or a non-empty list of them, got {rng!r}"
        )
    return list(rng), len(rng)
