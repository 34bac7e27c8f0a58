"""The norms of a model, or of a state dict, in one form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from bnlib.nn._classes import is_paused
from bnlib.nn.decorrelated_batch_norm import _DecorrelatedBatchNorm
from bnlib.nn.frozen_batch_norm import _FrozenBatchNorm
from bnlib.nn.ghost_batch_norm import _GhostBatchNorm
from bnlib.surgery._family import SYNCHRONIZED, holds_running_mean
from bnlib.surgery._modules import BATCH_NORMS
from bnlib.surgery.freeze import is_frozen

LEFT = 0.05
"""Share of the initial values in a running average above which it has not arrived yet."""

LEAST_EPS = 1e-12
"""What stands for the eps of a norm that has none, or zero."""


@dataclass(frozen=True)
class Norm:
    """A norm as rules see it; its tensors are those of the model, not copies.

    Attributes
    ----------
    name : str
        In the model, "" for the model itself.
    kind : str
        Name of the class, or ``state dict``.
    family : str
        ``batch``, ``instance`` or ``frozen`` (a class that never looks at the mini-batch);
        ``batch`` in a state dict, which does not tell.
    owner : torch.nn.Module or None
        The module, None in a state dict; so are the next three. With `structure` or a pass there is
        one, and `module` is it.
    training, eps, momentum
        As they are; a momentum of None is also the cumulative average.
    tensors : dict of str to Tensor
        Parameters and buffers, by their names in the module.
    """

    name: str
    kind: str
    family: str
    owner: nn.Module | None
    training: bool | None
    eps: float | None
    momentum: float | None
    tensors: Mapping[str, Tensor]

    @property
    def module(self) -> nn.Module:
        """The module, which a state dict does not have."""
        if self.owner is None:
            raise AttributeError(f"{self.name} is from a state dict and has no module")
        return self.owner

    @property
    def mean(self) -> Tensor | None:
        """Running mean (c,), or None."""
        return self.tensors.get("running_mean")

    @property
    def var(self) -> Tensor | None:
        """Running variance (c,), or None; of a covariance, its diagonal."""
        if "running_cov" in self.tensors:
            return self.tensors["running_cov"].diagonal(dim1=-2, dim2=-1).flatten()
        return self.tensors.get("running_var")

    @property
    def updates(self) -> int | None:
        """How many mini-batches the running statistics have seen, as far as the norm counts."""
        count = self.tensors.get("num_batches_tracked")
        return None if count is None else int(count)

    @property
    def frozen(self) -> bool:
        """Whether ``train()`` leaves it in eval mode: by its class or by `surgery.freeze`."""
        return self.family == "frozen" or (self.owner is not None and is_frozen(self.owner))

    @property
    def tracks(self) -> bool:
        """Whether a pass in train mode would move its running statistics."""
        if self.mean is None or self.frozen or self.owner is None or is_paused(self.owner):
            return False
        return bool(getattr(self.owner, "track_running_stats", True))

    @property
    def mode(self) -> str:
        """``train``, ``eval``, ``frozen``, or "" in a state dict."""
        if self.frozen:
            return "frozen"
        return {None: "", True: "train", False: "eval"}[self.training]

    @property
    def uses_batch(self) -> bool:
        """Whether it normalizes by the statistics of its input, in the mode that it is in."""
        return not self.frozen and (self.training is True or self.mean is None)


def left_of_initial(norm: Norm) -> float:
    """Return the share of the initial 0 and 1 in the running statistics, 0 where it is not known.

    After n updates of an exponential average it is (1 - momentum)^n. Statistics that were loaded or
    recalibrated have no count of updates, and are told by not being 0 and 1.
    """
    if not norm.updates or not norm.momentum:
        return float(norm.updates == 0 and is_initial(norm))
    return (1 - norm.momentum) ** norm.updates


def initial_share(norm: Norm) -> float:
    """Return the share of the initial 1 in the running variance of the median channel, at most 1.

    What is left of the 1 weighs more beside a small variance.
    """
    left = left_of_initial(norm)
    if norm.var is None or not left:
        return left
    return min(left / max(min(float(norm.var.median()), 1.0), left), 1.0)


def arrived(norm: Norm) -> bool:
    """Whether the running statistics are those of data, and no longer the initial ones."""
    if norm.mean is None or norm.var is None or is_initial(norm):
        return False
    return initial_share(norm) <= LEFT


def is_initial(norm: Norm) -> bool:
    """Whether the running statistics are exactly 0 and 1, which no data leave behind."""
    if norm.mean is None or norm.var is None:
        return False
    return bool((norm.mean == 0).all() and (norm.var == 1).all())


def has_learned(norm: Norm) -> bool:
    """Whether scales and shifts, those that there are, differ among the channels.

    Both, since some initialize the scales by random numbers.
    """
    affine = [norm.tensors[key] for key in ("weight", "bias") if key in norm.tensors]
    return bool(affine) and all(p.numel() > 1 and bool((p != p[0]).any()) for p in affine)


def norms_of(model: nn.Module) -> dict[str, Norm]:
    """Return the norms of a model, each once, under the first of its names."""
    return {name: _norm(name, module) for name, module in model.named_modules() if _is_norm(module)}


def parameters_nearby(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the last parameter in front of each norm, in the order in which parts were added.

    It tells whether the part around a norm learns that has no parameters of its own.
    """
    found, last = {}, None
    for name, module in model.named_modules():
        if _is_norm(module) and last is not None:
            found[name] = last
        last = next(iter(module.parameters(recurse=False)), last)
    return found


def _is_norm(module: nn.Module) -> bool:
    kinds = (_NormBase, *BATCH_NORMS, _DecorrelatedBatchNorm)
    return isinstance(module, kinds) or holds_running_mean(module)


def _norm(name: str, module: nn.Module) -> Norm:
    kind = getattr(module, "original_name", type(module).__name__)
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    tensors = {key: value for key, value in own if not nn.parameter.is_lazy(value)}
    for key in ("weight", "bias"):  # where a parametrization computes it
        value = getattr(module, key, None)
        if isinstance(value, Tensor) and not nn.parameter.is_lazy(value):
            tensors.setdefault(key, value.detach())
    return Norm(
        name,
        kind,
        _family(module, kind),
        module,
        module.training,
        _number(getattr(module, "eps", None)),
        _number(getattr(module, "momentum", None)),
        tensors,
    )


def _family(module: nn.Module, kind: str) -> str:
    if isinstance(module, _FrozenBatchNorm) or "Frozen" in kind:
        return "frozen"
    return "instance" if isinstance(module, _InstanceNorm) or "Instance" in kind else "batch"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def norms_of_state(state: Mapping[str, Tensor]) -> dict[str, Norm]:
    """Return what holds a running mean in a state dict."""
    found = {}
    for key in state:
        name, _, last = key.rpartition(".")
        if last == "running_mean":
            prefix = key.removesuffix(last)
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            own = {k: v for k, v in own.items() if "." not in k}
            found[name] = Norm(name, "state dict", "batch", None, None, None, None, own)
    return found


def values_per_mean(module: nn.Module, x: Tensor, mask: Tensor | None = None) -> int:
    """Return over how many values of its input a norm takes each mean, in train mode.

    In a ghost batch norm the smallest part counts; in a synchronized one all processes do.
    """
    if mask is not None:
        return int(mask.sum())
    if isinstance(module, _InstanceNorm):
        return x[0].numel() // (1 if x.dim() == module._get_no_batch_dim() else x.shape[1])
    if x.dim() < 2 or not x.numel():
        return 0
    examples = x.shape[0]
    if isinstance(module, _GhostBatchNorm):
        examples //= max(examples // module.ghost_size, 1)
    if isinstance(module, SYNCHRONIZED) and dist.is_available() and dist.is_initialized():
        examples *= dist.get_world_size()
    return examples * x[0, 0].numel()
