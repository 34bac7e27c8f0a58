"""What the norms that torch has not refuse, with the name of what was wrong."""

from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from bnlib.nn._cpu import definition


def mini_batch(module: nn.Module, input: Tensor) -> None:
    """Refuse an `input` that does not fit the axes, channels or dtype of a batch norm."""
    module._check_input_dim(input)
    if not input.is_floating_point():
        raise TypeError(f"input: expected floating point, got {input.dtype}")
    if input.shape[1] != module.num_features:
        raise ValueError(
            f"input: expected {module.num_features} channels on axis 1, got shape "
            f"{tuple(input.shape)}"
        )
    if module.eps <= 0:
        raise ValueError(f"eps: expected more than 0, got {module.eps}")
    allowed = (input.dtype, definition.computing_dtype(input))
    for name in ("weight", "bias", "running_mean", "running_var", "running_cov"):
        tensor = getattr(module, name, None)
        if tensor is not None and tensor.dtype not in allowed:
            raise TypeError(f"input: expected {tensor.dtype} as `{name}`, got {input.dtype}")


def has_values(x: Tensor) -> bool:
    """Whether `x` has values to look at: not on the meta device, not faked, and not recorded."""
    return not (x.is_meta or is_fake(x) or get_proxy_mode() is not None)


def values_per_channel(input: Tensor) -> int:
    """Return how many values each average goes over, and refuse fewer than 2."""
    count = input.numel() // input.shape[1]
    if count < 2:
        raise ValueError(
            f"input: expected more than 1 value per channel, got shape {tuple(input.shape)}"
        )
    return count


def statistics_of_batch(module: nn.Module, input: Tensor) -> None:
    """Refuse one value per channel where a batch norm would take statistics of `input`."""
    if input.numel() and (module.training or module.running_mean is None):
        values_per_channel(input)


def last_axes(input: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse an `input` whose last axes have other lengths than `shape`, or of integers."""
    if not input.is_floating_point():
        raise TypeError(f"input: expected floating point, got {input.dtype}")
    if input.shape[max(input.dim() - len(shape), 0) :] != shape:
        raise ValueError(
            f"input: expected last axes of lengths {shape}, got shape {tuple(input.shape)}"
        )


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a `value` below `least`, or NaN."""
    if not value >= least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")


def integer(name: str, value: int, least: int) -> None:
    """Refuse what is not an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    at_least(name, value, least)
