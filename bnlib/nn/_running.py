"""Running statistics of a torch module: updated last, all together, or not at all."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bnlib.nn import _check
from bnlib.nn._cpu import definition, dispatch, memory_format
from bnlib.nn._cpu.definition import HALVES

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
UNROUNDED = "_unrounded"  # attribute of a module: statistics before they were rounded


def normalize(
    x: Tensor,
    running: tuple[Tensor, Tensor],
    parameters: tuple[Tensor | None, Tensor | None],
    eps: float,
) -> Tensor:
    """Normalize `x` by running mean and variance, in torch's operation; the output is dense.

    Where channels lie side by side, the backward pass of torch 2.13 on the CPU takes running
    statistics and the weight for contiguous, whatever their strides. So it gets contiguous ones.
    The output has the memory format of `x`; compiled, torch's would have the strides of `x`.
    """
    tensors = map(memory_format.contiguous, (*running, *parameters))
    return memory_format.like(F.batch_norm(x, *tensors, False, 0.0, eps), x)


def tracks(module: nn.Module) -> bool:
    """Whether a mini-batch moves the running statistics of `module`; the rule is torch's."""
    return module.training and module.track_running_stats and module.running_mean is not None


def update(
    module: nn.Module,
    mean: Tensor,
    var: Tensor,
    count: int | Tensor,
    *,
    watched: bool | None = None,
) -> None:
    """Move the running statistics, if `module` tracks them, towards those of a mini-batch.

    Parameters
    ----------
    module : Module
        Has the buffers and the `momentum` of ``torch.nn.BatchNorm2d``; with `momentum` None the
        running statistics are the mean over all mini-batches so far. Where `refuse_nonfinite` is
        true, statistics that are not finite raise, and no buffer changes.
    mean, var : Tensor, (c,)
        Batch mean and biased variance; the running variance gets the unbiased one.
    count : int or Tensor
        Values in each average.
    watched : bool, optional
        What `definition.is_watched` says of the tensors, if the caller has asked.
    """
    correction = count / (count - 1)
    if not tracks(module):
        if module.refuse_nonfinite:
            refuse_nonfinite(mean, var)
        if module.training and module.track_running_stats:
            count_batch(module)
        return
    buffers = module.running_mean, module.running_var, module.num_batches_tracked
    if _is_simple(module, buffers, mean, watched):
        dispatch.kernel().track(buffers, mean, var, module.momentum, correction)
    else:
        count_batch(module, move(module, mean, var * correction, weight_of_new(module)))


def _is_simple(
    module: nn.Module, buffers: tuple[Tensor, ...], mean: Tensor, watched: bool | None
) -> bool:
    """Whether the compiled loop may do all of an update."""
    return (
        not module.refuse_nonfinite
        and type(module.momentum) is float
        and buffers[2] is not None
        and buffers[0].dtype not in HALVES
        and buffers[1].dtype not in HALVES
        and not (definition.is_watched(mean, *buffers) if watched is None else watched)
        and dispatch.kernel() is not None
    )


def weight_of_new(module: nn.Module) -> float | Tensor:
    """Return the weight of a mini-batch in the running statistics of `module`."""
    tracked = module.num_batches_tracked
    if module.momentum is not None:
        return module.momentum
    return 0.0 if tracked is None else 1.0 / (tracked + 1).double()


def move(module: nn.Module, mean: Tensor, var: Tensor, weight: float | Tensor) -> Tensor | None:
    """Replace each running statistic r by (1 - weight) * r + weight * new; as `replace`.

    No tensor here has a gradient. Without ``no_grad``, as compiled code that refuses inside of it
    leaves it on for good.
    """
    new = {"running_mean": mean, "running_var": var}
    return replace(module, {name: blend(module, name, new[name], weight) for name in new})


def blend(module: nn.Module, name: str, new: Tensor, weight: float | Tensor) -> Tensor:
    """Return (1 - weight) * r + weight * new for the running statistic r of this name."""
    return (1 - weight) * unrounded(module, name).to(new.dtype) + weight * new


def replace(module: nn.Module, new: dict[str, Tensor]) -> Tensor | None:
    """Put new values in the place of running statistics, all or, if one is refused, none.

    Returns
    -------
    Tensor or None
        The truth value that decides in compiled code; see `refuse_nonfinite`.
    """
    sound = refuse_nonfinite(*as_stored(module, new).values()) if module.refuse_nonfinite else None
    store(module, new, sound)
    return sound


def as_stored(module: nn.Module, new: dict[str, Tensor]) -> dict[str, Tensor]:
    """Round new running statistics to the dtypes of their buffers."""
    return {name: value.to(getattr(module, name).dtype) for name, value in new.items()}


@torch.no_grad()
def store(module: nn.Module, new: dict[str, Tensor], sound: Tensor | None = None) -> None:
    """Put new values in the place of running statistics, unless `sound` is false."""
    for name, value in as_stored(module, new).items():
        running = getattr(module, name)
        if (
            is_transformed()
            and memory_format.is_batched(value)
            and not memory_format.is_batched(running)
        ):
            raise RuntimeError(
                "vmap: the mini-batch has an axis that the running statistics, which are updated "
                "in place, have not. Set track_running_stats=False, or give each its own buffers "
                "with torch.func.stack_module_state and functional_call"
            )
        running.copy_(value if sound is None else torch.where(sound, value, running))
        if running.dtype in HALVES and not definition.is_watched(running, value):
            vars(module).setdefault(UNROUNDED, {})[name] = new[name].float()


def unrounded(module: nn.Module, name: str) -> Tensor:
    """Return a running statistic; of a half-precision buffer, as it was before it was rounded.

    A bfloat16 has 8 bits: with a momentum of 0.01, the step towards a new value that is closer than
    some 20 % is rounded away, and so is every further one. So the steps go on from a float32 value,
    which counts as long as the buffer holds it rounded: what is written into the buffer wins.
    """
    running = getattr(module, name)
    exact = vars(module).get(UNROUNDED, {}).get(name) if running.dtype in HALVES else None
    if exact is None or exact.shape != running.shape or definition.is_watched(running):
        return running
    return torch.where(exact.to(running.dtype) == running, exact, running.float())


def count_batch(module: nn.Module, sound: Tensor | None = None) -> None:
    """Count a mini-batch, unless `sound` is false."""
    if module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1 if sound is None else sound)


def is_transformed() -> bool:
    """Whether ``torch.func`` is at work, under which values cannot always be looked at."""
    return torch._C._are_functorch_transforms_active()


def refuse_nonfinite(mean: Tensor, var: Tensor) -> Tensor | None:
    """Raise ValueError where a statistic, in the dtype that it is stored in, is not finite.

    Compiled code raises RuntimeError, at a time of its own; what is returned is then the truth
    value that `store` needs. Where there are no values, nothing is refused.
    """
    finite = torch.isfinite(mean) & torch.isfinite(var)
    if torch.compiler.is_compiling():
        torch._assert_async(finite.all(), "refuse_nonfinite: statistics are not finite")
        return finite.all()
    if _check.has_values(finite) and not bool(finite.all()):
        channels = (~finite).nonzero().flatten().tolist()
        raise ValueError(
            f"refuse_nonfinite: expected statistics that are finite in {var.dtype}, got NaN or "
            f"infinity in {len(channels)} of {finite.numel()} channels, the first being "
            f"{channels[:5]}"
        )
    return None


@contextlib.contextmanager
def unchanged_by_failure(module: nn.Module) -> Iterator[None]:
    """Put the buffers back as they were if the body raises."""
    before = {name: getattr(module, name) for name in BUFFERS}
    before = {name: (b, b.clone()) for name, b in before.items() if b is not None}
    exact = dict(vars(module).get(UNROUNDED, {}))
    try:
        yield
    except BaseException:
        vars(module).pop(UNROUNDED, None)
        if exact:
            vars(module)[UNROUNDED] = exact
        with torch.no_grad():
            for buffer, value in before.values():
                with contextlib.suppress(RuntimeError):  # torch.func forbade to change it, too
                    buffer.copy_(value)
        raise
