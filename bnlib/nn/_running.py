"""Running statistics of a torch module: updated last, all together, or not at all."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def update(module: nn.Module, mean: Tensor, var: Tensor, count: int) -> None:
    """Move the running statistics towards those of a mini-batch, and count it.

    Parameters
    ----------
    module : Module
        Has the buffers and the `momentum` of ``torch.nn.BatchNorm2d``; with `momentum` None the
        running statistics are the mean over all mini-batches so far.
    mean, var : Tensor, (c,)
        Batch mean and biased variance; the running variance gets the unbiased one.
    count : int
        Values in each average.
    """
    with torch.no_grad():
        tracked = module.num_batches_tracked
        if module.momentum is not None:
            weight = module.momentum
        else:
            weight = 0.0 if tracked is None else 1.0 / (tracked + 1).double()
        move(module, mean, var * (count / (count - 1)), weight)
        if tracked is not None:
            tracked.add_(1)


def move(module: nn.Module, mean: Tensor, var: Tensor, weight: float | Tensor) -> None:
    """Replace each running statistic r by (1 - weight) * r + weight * new."""
    for running, new in ((module.running_mean, mean), (module.running_var, var)):
        running.copy_((1 - weight) * running.to(new.dtype) + weight * new)


def refuse_nonfinite(mean: Tensor, var: Tensor) -> None:
    """Raise ValueError where a statistic is NaN or infinite."""
    finite = torch.isfinite(mean + var)
    if torch.compiler.is_compiling():
        torch._assert_async(finite.all(), "refuse_nonfinite: statistics are not finite")
    elif not bool(finite.all()):
        channels = (~finite).nonzero().flatten().tolist()
        raise ValueError(
            "refuse_nonfinite: expected finite statistics of the mini-batch, got NaN or infinity "
            f"in {len(channels)} of {finite.numel()} channels, the first being {channels[:5]}"
        )


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
                buffer.copy_(value)
        raise
