"""The output is dense in the memory format of the input, whoever computes it.

So ``y.view(-1)`` behind a norm works eagerly, compiled, exported and on the meta device alike,
or in none of them. The output of LayerNorm is contiguous, as torch's is.
"""

import copy
import warnings

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torch_modules import pair

from bnlib import nn as bnn

LAST = torch.channels_last
INPUTS = {  # name: number of axes, input of 6 channels, the format of the output
    "transposed": (2, lambda: torch.randn(6, 4).t(), None),
    "permuted sequence": (3, lambda: torch.randn(4, 5, 6).permute(0, 2, 1), None),
    "cut sequence": (3, lambda: torch.randn(4, 6, 10)[..., ::2], None),
    "expanded batch": (3, lambda: torch.randn(1, 6, 5).expand(4, 6, 5), None),
    "permuted": (4, lambda: torch.randn(5, 3, 6, 4).permute(3, 2, 1, 0), None),
    "expanded": (4, lambda: torch.randn(4, 6, 1, 1).expand(4, 6, 3, 5), None),
    "one channel expanded": (4, lambda: torch.randn(4, 1, 3, 5).expand(4, 6, 3, 5), None),
    "channels_last": (4, lambda: torch.randn(4, 6, 3, 5).contiguous(memory_format=LAST), LAST),
    "crop": (4, lambda: torch.randn(4, 6, 3, 9).contiguous(memory_format=LAST)[..., 2:7], LAST),
    "half of the channels": (
        4, lambda: torch.randn(4, 12, 3, 5).contiguous(memory_format=LAST)[:, ::2], LAST,
    ),
    "permuted channels_last": (
        4, lambda: torch.randn(4, 6, 5, 3).contiguous(memory_format=LAST).transpose(2, 3), None,
    ),
}  # fmt: skip
OPTIONS = {"GroupNorm": (2, 6), "RMSNorm": None, "LayerNorm": None}
FAMILY = ["GhostBatchNorm2d", "BatchRenorm2d", "FrozenBatchNorm2d", "SplitBatchNorm2d"]
CALLS = [
    *((f"{kind}Norm{d}d", axes) for kind in ("Batch", "Instance") for d, axes in ((1, 3), (2, 4))),
    ("BatchNorm1d", 2),
    *((name, axes) for name in OPTIONS for axes in (2, 3, 4)),
    *((name, 4) for name in FAMILY),
]
COMBINATIONS = [
    pytest.param(name, key, id=f"{name}-{key}")
    for name, axes in CALLS
    for key, (dim, _, _) in INPUTS.items()
    if axes == dim
]


def eager(module, x):
    return module(x)


def watched(module, x):
    with FlopCounterMode(display=False):
        return module(x)


def on_meta(module, x):
    shape = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
    return module.to("meta")(shape)


@pytest.mark.parametrize(("name", "key"), COMBINATIONS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strides_do_not_depend_on_who_computes(name, key, training, dtype, kernel):
    _, make, memory_format = INPUTS[key]
    x = make().to(dtype)
    args = OPTIONS.get(name, (6,)) or (x.shape[-1],)
    module = getattr(bnn, name)(*args).to(dtype).train(training)
    if name.startswith(("Layer", "Instance")) or memory_format is None:
        memory_format = torch.contiguous_format
    for way in (eager, watched, on_meta):
        y = way(copy.deepcopy(module), x)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=memory_format), (way.__name__, y.stride())


class Flat(torch.nn.Module):
    """A norm and a view that needs its output to be contiguous."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm.requires_grad_(False)

    def forward(self, x):
        return self.norm(x).view(x.shape[0], -1)


@pytest.mark.parametrize("name", ["BatchNorm1d", "GroupNorm", "LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_view_behind_a_norm_of_permuted_input_compiles_and_exports(name, training):
    x = torch.randn(3, 5, 6).permute(0, 2, 1)
    args = OPTIONS.get(name, (6,)) or (5,)
    module = Flat(pair(name, *args)[0]).train(training)
    expected = copy.deepcopy(module)(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler about itself
        compiled = torch.compile(copy.deepcopy(module), backend="aot_eager", fullgraph=True)(x)
        exported = torch.export.export(copy.deepcopy(module), (x,)).module()(x)
    torch.testing.assert_close(compiled, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(exported, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "key"), [c for c in COMBINATIONS if not c.values[0].startswith("Instance")]
)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_output_of_a_pass_without_gradient_can_be_changed_in_place(name, key, training, kernel):
    """As torch's, but for its instance norm: of a view that ``no_grad`` made it could not."""
    x = INPUTS[key][1]()
    args = OPTIONS.get(name, (6,)) or (x.shape[-1],)
    with torch.no_grad():
        y = getattr(bnn, name)(*args).train(training)(x)
    added = torch.zeros(y.shape, requires_grad=True)
    y += added
    y.sum().backward()
    assert torch.equal(added.grad, torch.ones(y.shape))


@pytest.mark.parametrize("name", ["BatchNorm1d", "GroupNorm", "LayerNorm", "RMSNorm"])
def test_output_can_be_detached_in_place(name, kernel):
    args = OPTIONS.get(name, (6,)) or (6,)
    y = getattr(bnn, name)(*args)(torch.randn(4, 6, requires_grad=True))
    assert not y.detach_().requires_grad
