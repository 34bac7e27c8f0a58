"""Tell a plain batch norm from one with more behind it, and from its relatives."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from bnlib import nn as bnn
from bnlib.nn._classes import refuse_paused
from bnlib.nn.batch_norm import _BatchNorm as _OurBatchNorm
from bnlib.nn.batch_renorm import _BatchRenorm
from bnlib.nn.conditional_batch_norm import _ConditionalBatchNorm
from bnlib.nn.decorrelated_batch_norm import _DecorrelatedBatchNorm
from bnlib.nn.ghost_batch_norm import _GhostBatchNorm

PLAIN_FORWARDS = (
    _BatchNorm.forward,
    nn.SyncBatchNorm.forward,
    _OurBatchNorm.forward,
    bnn.SyncBatchNorm.forward,
)
RELATIVES = (_GhostBatchNorm, _BatchRenorm, _ConditionalBatchNorm, bnn.MaskedBatchNorm1d)
"""They normalize in another way than a plain batch norm in train mode."""

SYNCHRONIZED = (nn.SyncBatchNorm, bnn.SyncBatchNorm)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, bnn.ScaleNorm, bnn.DyT)
"""Batch and instance norms, group, layer and RMS norms, and what derives from them."""

TOLERANCE = 1e-6  # of the largest value; a batch norm may compute in float32


def is_plain(module: nn.Module) -> bool:
    """Return whether a batch norm normalizes its input, scales and shifts it, and no more.

    A forward that is not that of a known class is compared with that of a batch norm on random
    numbers, with random parameters: with a weight of zero an activation could not be seen.
    """
    if not isinstance(module, _BatchNorm) or isinstance(module, RELATIVES):
        return False
    if not all(type(child) is nn.Identity for child in module.children()):
        return False
    if type(module).forward in PLAIN_FORWARDS and "forward" not in vars(module):
        return True
    return inputs(module) == 1 and _agree(module, without_children(module), [])


def is_relative(module: nn.Module) -> bool:
    """Return whether a relative computes what its class in `bnlib.nn` does, and no more."""
    own = type(module).forward.__module__.startswith("bnlib.nn.") and "forward" not in vars(module)
    return own and isinstance(module, (*RELATIVES, _DecorrelatedBatchNorm))


def split(module: nn.Module) -> tuple[nn.Module, list[nn.Module]] | None:
    """Return a plain batch norm and the modules behind it that together are `module`, or None.

    So for timm's ``BatchNormAct2d``, which has a drop and an activation for children. The batch
    norm shares parameters and buffers with `module`, and the others are its own children. None also
    if there is nothing behind, and if the two do not compute the same on random numbers.
    """
    if not isinstance(module, _BatchNorm) or isinstance(module, RELATIVES) or inputs(module) != 1:
        return None
    behind = [child for child in module.children() if type(child) is not nn.Identity]
    if not behind:
        return None
    plain = without_children(module)
    return (plain, behind) if _agree(module, plain, behind) else None


def check_statistics(module: nn.Module, name: str) -> None:
    """Refuse a batch norm of a class that is not known to normalize what it is given."""
    refuse_paused({name: module})
    known = is_plain(module) or is_relative(module)
    if not known and split(module) is None and not _keeps_statistics_of_its_input(module):
        raise ValueError(
            f"{name or 'the model'} is a {type(module).__name__}, whose forward does not do what "
            "that of a batch norm does with its input; leave it out by `layers`"
        )


def _keeps_statistics_of_its_input(module: nn.Module) -> bool:
    """Return whether train mode, with momentum 1, sets the mean and the variance of the input."""
    if inputs(module) != 1 or isinstance(module, SYNCHRONIZED):
        return False
    try:
        scratch, x = _scratch(module), probe(module)
        scratch.momentum = 1.0
        _run(scratch, x, True)
        rows = x.transpose(0, 1).flatten(1)
        wanted = ((scratch.running_mean, rows.mean(1)), (scratch.running_var, rows.var(1)))
        return all(_close(got, expected) for got, expected in wanted)
    except Exception:  # whatever a forward that is not known raises
        return False


def takes_off_the_mean(module: nn.Module) -> bool:
    """Return whether a shift of the input and of the running mean leaves the output as it was."""
    if is_plain(module) or is_relative(module):
        return True
    if inputs(module) != 1 or isinstance(module, SYNCHRONIZED):
        return False
    try:
        norms, x = [_scratch(module), _scratch(module)], probe(module)
        if norms[1].running_mean is not None:
            norms[1].running_mean += 1
        return all(
            _close(_run(norms[1], x + 1, mode), _run(norms[0], x, mode)) for mode in (False, True)
        )
    except Exception:  # whatever a forward that is not known raises
        return False


def named_others(model: nn.Module) -> dict[str, str]:
    """Return the class names, by name, of norms that are no batch norms to the surgery.

    These are known norms, and whatever else holds a running mean: frozen batch norms, also those
    of torchvision and detectron2, and scripted ones.
    """
    return {
        name: getattr(module, "original_name", type(module).__name__)
        for name, module in model.named_modules()
        if not isinstance(module, _BatchNorm) and _is_norm(module)
    }


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, NORMS) or holds_running_mean(module)


def holds_running_mean(module: nn.Module) -> bool:
    """Return whether a module has a running mean itself, and is no bare module.

    An exported graph keeps its buffers in such ones.
    """
    buffers = dict(module.named_buffers(recurse=False))
    return "running_mean" in buffers and type(module) is not nn.Module


def others(model: nn.Module) -> Counter[str]:
    """Count the class names of `named_others`, for messages."""
    return Counter(named_others(model).values())


def say(counts: Counter[str]) -> str:
    """Return ``20 FrozenBatchNorm2d, 1 LayerNorm``."""
    return ", ".join(f"{number} {name}" for name, number in counts.most_common())


def inputs(module: nn.Module) -> int:
    """Return how many arguments the forward of a module has; a mask or a condition is one more."""
    return len(inspect.signature(module.forward).parameters)


def without_children(module: nn.Module) -> nn.Module:
    """Return the plain batch norm that a subclass derives from, with its parameters and buffers."""
    plain = object.__new__(_plain_class(module))
    nn.Module.__init__(plain)
    own = vars(plain).keys() | {"forward", "train"}  # `freeze` sets the latter
    vars(plain).update({key: value for key, value in vars(module).items() if key not in own})
    plain._parameters.update(module._parameters)
    plain._buffers.update(module._buffers)
    plain.training = module.training
    return plain


def axes(module: nn.Module) -> set[int]:
    """Return the numbers of axes that a batch norm takes: {2, 3}, {4}, {5}, or all of them."""
    return {number for number in range(2, 6) if _takes(module, number)}


def _takes(module: nn.Module, number: int) -> bool:
    try:
        module._check_input_dim(torch.empty([2] * number, device="meta"))
    except ValueError:
        return False
    return True


def _plain_class(module: nn.Module) -> type:
    for kind in SYNCHRONIZED:
        if isinstance(module, kind):
            return kind
    return next(cls for cls in type(module).__mro__ if _is_known(cls))


def _is_known(cls: type) -> bool:
    known = cls.__module__.startswith(("torch.nn.", "bnlib.nn."))
    return known and cls.forward in PLAIN_FORWARDS


def _agree(module: nn.Module, plain: nn.Module, behind: list[nn.Module]) -> bool:
    """Return whether `module` is `plain` and then what is behind it, in eval and in train mode."""
    # In train mode, synchronized batch norms would talk to other processes.
    modes = (False,) if isinstance(module, SYNCHRONIZED) else (False, True)
    try:
        whole, parts = _scratch(module), (_scratch(plain), _scratch(nn.Sequential(*behind)))
        x = probe(module)
        for mode in modes:
            expected = _run(parts[1], _run(parts[0], x, mode), mode)
            if not _close(_run(whole, x, mode), expected):
                return False
    except Exception:  # whatever a forward that is not known raises
        return False
    return True


def _close(got: Tensor, expected: Tensor) -> bool:
    return bool((got - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _scratch(module: nn.Module) -> nn.Module:
    """Return a copy in float64 with random parameters and statistics, the same for each module."""
    copied = copy.deepcopy(module).double()
    generator = torch.Generator().manual_seed(0)
    ranges = {"running_mean": (-1, 1), "running_var": (0.5, 2), "weight": (0.5, 2), "bias": (-1, 1)}
    for name, (low, high) in ranges.items():
        value = getattr(copied, name, None)
        if isinstance(module, _BatchNorm) and value is not None:
            random = torch.empty(value.shape, dtype=torch.float64).uniform_(
                low, high, generator=generator
            )
            value.data.copy_(random)
    return copied


def probe(batch_norm: nn.Module) -> Tensor:
    """Return random input for a batch norm in float64."""
    x = of_many_sizes((8, batch_norm.num_features, *[2] * (min(axes(batch_norm)) - 2)))
    like = next(itertools.chain(batch_norm.parameters(), batch_norm.buffers()), x)
    return x.to(like.device)


def of_many_sizes(shape: tuple[int, ...]) -> Tensor:
    """Return random numbers of both signs, from 0.01 to 100, so that an activation shows."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    size = torch.empty(shape, dtype=torch.float64).uniform_(-2, 2, generator=generator)
    return x * 10**size


def _run(module: nn.Module, x: Tensor, training: bool) -> Tensor:
    """Call the forward, without hooks, in one mode, with the same random numbers each time."""
    for part in module.modules():
        part.training = training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module.forward(x.clone())
