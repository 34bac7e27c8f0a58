"""Checks of arguments: every error names the argument, what was expected and what came."""

from collections.abc import Sequence

import numpy as np

FLOATS = {np.dtype(name) for name in ("float16", "float32", "float64")}
Axes = int | Sequence[int] | None


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
    if not (np.isscalar(eps) and 0 <= eps < np.inf):
        raise ValueError(f"eps: expected a finite number >= 0, got {eps!r}")


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
    shape = np.shape(parameter)
    seeds = 0 if parameter is None else max(len(shape) - own, 0)
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
