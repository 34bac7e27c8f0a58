"""What several tests need: the classes, a training step, distances to float64."""

import copy
import io
import pickle
from collections.abc import Iterator

import torch
from torch import nn

from bnlib import nn as bnn

CASES = {  # name: constructor arguments, options, shape of an input
    "BatchNorm1d": ((5,), {}, (8, 5)),
    "BatchNorm2d": ((3,), {}, (4, 3, 5, 6)),
    "BatchNorm3d": ((3,), {"momentum": None}, (2, 3, 3, 4, 5)),
    "InstanceNorm1d": ((3,), {"affine": True, "track_running_stats": True}, (4, 3, 9)),
    "InstanceNorm2d": ((3,), {}, (3, 5, 4)),
    "InstanceNorm3d": ((3,), {"affine": True}, (2, 3, 3, 4, 5)),
    "GroupNorm": ((2, 4), {}, (3, 4, 5, 5)),
    "LayerNorm": (([4, 5],), {}, (6, 4, 5)),
    "RMSNorm": ((7,), {"eps": 1e-3}, (6, 3, 7)),
}


def pair(name: str, *args, **options) -> tuple[nn.Module, nn.Module]:
    """A drop-in with random parameters, and torch's class with the same state."""
    ours, peer = getattr(bnn, name)(*args, **options), getattr(nn, name)(*args, **options)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(1, 0.5)
    peer.load_state_dict(ours.state_dict(), strict=True)
    return ours, peer


def step(
    module: nn.Module, x: torch.Tensor, dy: torch.Tensor, *others: torch.Tensor
) -> dict[str, torch.Tensor]:
    """One forward and backward pass: output, gradients, and the state afterwards."""
    module.zero_grad()
    x = x.detach().clone().requires_grad_(x.is_floating_point())
    y = module(x, *others)
    y.backward(dy.to(y.dtype).expand_as(y))
    gradients = {f"d{name}": p.grad for name, p in module.named_parameters()}
    state = {name: value.clone() for name, value in module.state_dict().items()}
    return {"y": y.detach(), "dx": x.grad, **gradients, **state}


def distance(got: torch.Tensor, exact: torch.Tensor, unit: float = 0.0) -> float:
    """Largest difference, relative to the largest exact value, or to a unit if that is larger."""
    got, exact = got.detach(), exact.detach().double()
    return float(
        (got.double() - exact).abs().max() / exact.abs().max().clamp(min=max(unit, 1e-300))
    )


def errors(
    got: dict[str, torch.Tensor], exact: dict[str, torch.Tensor], dy: torch.Tensor
) -> dict[str, float]:
    """Distances of the results of `step`, in units that do not vanish where a value happens to.

    A running mean is measured in running standard deviations, the gradient of a parameter in the
    sum of the absolute values of the gradients that it adds up (the mean over the parameters).
    """
    units = dict.fromkeys(got, 0.0)
    if "running_var" in exact:
        units["running_mean"] = float(exact["running_var"].max()) ** 0.5
    for name in {"dweight", "dbias"} & exact.keys():
        units[name] = float(dy.double().abs().sum()) / exact[name].numel()
    return {n: distance(v, exact[n], units[n]) for n, v in got.items() if v.numel()}


def copies(module: nn.Module) -> Iterator[nn.Module]:
    """What copying, pickling, and saving make of a module."""
    yield copy.deepcopy(module)
    yield pickle.loads(pickle.dumps(module))
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    yield torch.load(file, weights_only=False)
