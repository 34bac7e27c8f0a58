"""Running statistics of a torch module: updated last, all together, or not at all."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bnlib.nn import _fused, _layout

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def normalize(
    x: Tensor,
    running: tuple[Tensor, Tensor],
    parameters: tuple[Tensor | None, Tensor | None],
    eps: float,
) -> Tensor:
    """Normalize `x` by running mean and variance, in torch's operation.

    Where channels lie side by side, the backward pass of torch 2.13 on the CPU takes running
    statistics and the weight for contiguous, whatever their strides. So it gets contiguous ones.
    The output has the memory format of `x`; compiled, torch's would have the strides of `x`.
    """
    tensors = map(_layout.contiguous, (*running, *parameters))
    return _layout.like(F.batch_norm(x, *tensors, False, 0.0, eps), x)


def update(
    module: nn.Module,
    mean: Tensor,
    var: Tensor,
    count: int | Tensor,
    sound: Tensor | None = None,
    *,
    watched: bool = True,
) -> None:
    """Move the running statistics towards those of a mini-batch, and count it.

    Parameters
    ----------
    module : Module
        Has the buffers and the `momentum` of ``torch.nn.BatchNorm2d``; with `momentum` None the
        running statistics are the mean over all mini-batches so far.
    mean, var : Tensor, (c,)
        Batch mean and biased variance; the running variance gets the unbiased one.
    count : int or Tensor
        Values in each average.
    sound : Tensor, optional
        Nothing changes where this one truth value is false.
    watched : bool
        Whether a kernel would go wrong on these buffers; see `_fused.is_watched`.
    """
    tracked, correction = module.num_batches_tracked, count / (count - 1)
    momentum, mean_so_far = module.momentum, module.running_mean
    if (
        not watched
        and sound is None
        and tracked is not None
        and type(momentum) is float
        and mean_so_far.dtype in (torch.float32, torch.float64)
        and _fused.has_numba()
    ):
        buffers = mean_so_far, module.running_var, tracked
        _fused.kernel().track(buffers, mean, var, momentum, correction)
        return
    with torch.no_grad():
        move(module, mean, var * correction, weight_of_new(module), sound)
        if tracked is not None:
            tracked.add_(1 if sound is None else sound)


def weight_of_new(module: nn.Module) -> float | Tensor:
    """Return the weight of a mini-batch in the running statistics of `module`."""
    tracked = module.num_batches_tracked
    if module.momentum is not None:
        return module.momentum
    return 0.0 if tracked is None else 1.0 / (tracked + 1).double()


def move(
    module: nn.Module,
    mean: Tensor,
    var: Tensor,
    weight: float | Tensor,
    sound: Tensor | None = None,
) -> None:
    """Replace each running statistic r by (1 - weight) * r + weight * new."""
    simple = type(weight) is float and sound is None and not is_transformed()
    for running, new in ((module.running_mean, mean), (module.running_var, var)):
        if simple and running.dtype in (torch.float32, torch.float64):
            running.lerp_(new.to(running.dtype), weight)
        else:
            store(running, (1 - weight) * running.to(new.dtype) + weight * new, sound)


def store(running: Tensor, new: Tensor, sound: Tensor | None = None) -> None:
    """Put a new value in the place of a running statistic, unless `sound` is false."""
    if is_transformed() and _has_axis_of_vmap(new) and not _has_axis_of_vmap(running):
        raise RuntimeError(
            "vmap: the mini-batch has an axis that the running statistics, which are updated in "
            "place, have not. Set track_running_stats=False, or give each its own buffers with "
            "torch.func.stack_module_state and functional_call"
        )
    running.copy_(new if sound is None else torch.where(sound, new, running))


def is_transformed() -> bool:
    """Whether ``torch.func`` is at work, under which values cannot always be looked at."""
    return torch._C._are_functorch_transforms_active()


def _has_axis_of_vmap(x: Tensor) -> bool:
    """Whether `x` is a batch of `vmap`, also inside of `grad`."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x) and not functorch.is_batchedtensor(x):
        x = functorch.get_unwrapped(x)
    return functorch.is_batchedtensor(x)


def refuse_nonfinite(mean: Tensor, var: Tensor) -> Tensor | None:
    """Raise ValueError where a statistic is NaN or infinite.

    Compiled code raises RuntimeError, at a time of its own; what is returned is then the truth
    value that `update` needs.
    """
    finite = torch.isfinite(mean + var)
    if torch.compiler.is_compiling():
        torch._assert_async(finite.all(), "refuse_nonfinite: statistics are not finite")
        return finite.all()
    if not bool(finite.all()):
        channels = (~finite).nonzero().flatten().tolist()
        raise ValueError(
            "refuse_nonfinite: expected finite statistics of the mini-batch, got NaN or infinity "
            f"in {len(channels)} of {finite.numel()} channels, the first being {channels[:5]}"
        )
    return None


@contextlib.contextmanager
def unchanged_by_failure(module: nn.Module) -> Iterator[None]:
    """Put the buffers back as they were if the body raises."""
    before = {name: getattr(module, name) for name in BUFFERS}
    before = {name: (b, b.clone()) for name, b in before.items() if b is not None}
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in before.values():
                with contextlib.suppress(RuntimeError):  # torch.func forbade to change it, too
                    buffer.copy_(value)
        raise
