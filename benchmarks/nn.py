"""Norms for PyTorch on the CPU, float32: torch.nn against bnlib.nn, with and without Numba.

All numbers are ratios of times taken turn by turn in one run: torch's time over ours. The last
columns say how far the fastest of ours is from the memory bound, as a multiple of the time of a
copy of the tensor. `python -m benchmarks.nn --tiny` shows in seconds that everything runs.
"""

import argparse
import contextlib
import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.timing import compare
from bnlib import nn as bnn
from bnlib.nn import _fused, _kernel_torch

SHAPES = [
    (32, 64, 56, 56),
    (64, 256, 14, 14),
    (8, 16, 128, 128),
    (16, 512, 7, 7),
    (32, 3, 224, 224),
]
TINY = [(4, 16, 6, 6), (2, 3, 8, 8)]
THREADS = (1, 2)
NORMS = {
    "LayerNorm(768)": ("LayerNorm", (768,), (8192, 768)),
    "RMSNorm(768)": ("RMSNorm", (768,), (8192, 768)),
    "GroupNorm(32, 64)": ("GroupNorm", (32, 64), (32, 64, 56, 56)),
    "InstanceNorm2d(64)": ("InstanceNorm2d", (64,), (32, 64, 56, 56)),
}  # fmt: skip


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Let the modules take one kernel."""
    module = _kernel_torch
    if name == "numba":
        from bnlib.nn import _kernel_numba as module
    before, _fused.kernel = _fused.kernel, lambda: module
    try:
        yield
    finally:
        _fused.kernel = before


def contenders(peer: nn.Module, ours: nn.Module, run: Callable[[nn.Module], object]) -> dict:
    """Functions that run torch's module, and ours on either kernel."""

    def with_kernel(name):
        def call():
            with using(name):
                return run(ours)

        return call

    kernels = ["numba", "plain"] if _fused.has_numba() else ["plain"]
    return {"torch": lambda: run(peer), **{name: with_kernel(name) for name in kernels}}


def modes(x: Tensor) -> dict[str, Callable[[nn.Module], object]]:
    """Return what is timed of one module."""
    leaf, dy = x.clone().requires_grad_(), torch.randn_like(x)

    def forward_backward(module):
        return torch.autograd.grad(module(leaf), (leaf, *module.parameters()), dy)

    return {"forward": lambda module: module(x), "forward + backward": forward_backward}


def error(results: tuple, exact: tuple) -> float:
    """Largest distance to float64 relative to the largest value, over all results."""
    pairs = [(a.detach(), b.detach()) for a, b in zip(results, exact, strict=True)]
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in pairs)


def timed(functions: dict, x: Tensor) -> dict[str, float]:
    """Seconds of each function, with more rounds for smaller tensors."""
    rounds = 1 if x.numel() < 2**16 else max(10, min(200, 2**25 // x.numel()))
    return compare(functions, rounds=rounds)


def table(title: str, rows: dict[str, tuple[nn.Module, nn.Module, Tensor]], which: slice) -> None:
    """Time each row's pair of modules and print one line for each mode."""
    print(f"\n{title}, {torch.get_num_threads()} thread(s)")
    print(f"{'':22} {'':19} {'numba':>7} {'torch ops':>9} {'x copy':>7} {'error':>8} {'torch':>8}")
    ratios: dict[str, dict[str, list[float]]] = {}
    for label, (peer, ours, x) in rows.items():
        copied = timed({"copy": x.clone}, x)["copy"]
        exact = copy.deepcopy(peer).double()
        for mode, run in list(modes(x).items())[which]:
            seconds = timed(contenders(peer, ours, run), x)
            here = {name: seconds["torch"] / s for name, s in seconds.items() if name != "torch"}
            for name, ratio in here.items():
                ratios.setdefault(mode, {}).setdefault(name, []).append(ratio)
            wanted = next(iter(modes(x.double()).values()))(exact)
            errors = [error((m(x),), (wanted,)) for m in (ours, peer)]
            bound = min(s for name, s in seconds.items() if name != "torch") / copied
            numba, plain = here.get("numba", math.nan), here["plain"]
            print(f"{label:22} {mode:19} {numba:7.2f} {plain:9.2f} {bound:7.2f} "
                  f"{errors[0]:8.0e} {errors[1]:8.0e}", flush=True)  # fmt: skip
    for mode, by_kernel in ratios.items():
        means = {k: math.exp(sum(map(math.log, v)) / len(v)) for k, v in by_kernel.items()}
        lowest = {k: min(v) for k, v in by_kernel.items()}
        print(f"geometric mean, {mode}: " + ", ".join(
            f"{k} {means[k]:.2f} (lowest {lowest[k]:.2f})" for k in means))  # fmt: skip


def batch_norms(shape, *, training=True, relu=False):
    """Return torch's batch norm and ours, in a mode, each followed by ReLU or not."""
    modules = [m.BatchNorm2d(shape[1]) for m in (nn, bnn)]
    if relu:
        modules = [nn.Sequential(m, nn.ReLU(inplace=True)) for m in modules]
    return [m.train(training) for m in modules]


class Block(nn.Module):
    """Two convolutions with batch norm, and a shortcut."""

    def __init__(self, norm, c_in, c_out, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), norm(c_out), nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), norm(c_out),
        )  # fmt: skip
        self.shortcut = nn.Sequential()
        if stride > 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), norm(c_out)
            )

    def forward(self, x):  # noqa: D102
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(norm: type[nn.Module]) -> nn.Module:
    """Nine layers for images of 32 x 32 pixels."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), norm(16), nn.ReLU(inplace=True),
        Block(norm, 16, 16, 1), Block(norm, 16, 32, 2), Block(norm, 32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def training_step(examples: int, size: int) -> None:
    """Time a whole step of a small ResNet: forward, backward, update."""
    x, labels = torch.randn(examples, 3, size, size), torch.randint(0, 10, (examples,))
    networks = {norm: resnet(norm) for norm in (nn.BatchNorm2d, bnn.BatchNorm2d)}
    optimizers = {n: torch.optim.SGD(n.parameters(), 0.01) for n in networks.values()}

    def step(network):
        optimizers[network].zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizers[network].step()

    seconds = compare(contenders(*networks.values(), step), rounds=1 if size < 32 else 20)
    ratios = {k: f"{seconds['torch'] / s:.2f}" for k, s in seconds.items() if k != "torch"}
    print(f"\nstep of a ResNet, {torch.get_num_threads()} thread(s): {ratios}", flush=True)


def compiled(shapes: list[tuple[int, ...]]) -> None:
    """Time torch.compile of torch's module against our eager one."""
    print(f"\ntorch.compile(torch.nn) / bnlib.nn, {torch.get_num_threads()} thread(s)")
    for shape in shapes:
        peer, ours = batch_norms(shape)
        torch._dynamo.reset()
        x = torch.randn(shape)
        for mode, run in modes(x).items():
            seconds = timed(contenders(torch.compile(peer), ours, run), x)
            fastest = min(s for name, s in seconds.items() if name != "torch")
            print(f"{shape!s:22} {mode:19} {seconds['torch'] / fastest:7.2f}", flush=True)


def main(tiny: bool = False) -> None:
    """Print all tables."""
    before, shapes = torch.get_num_threads(), TINY if tiny else SHAPES
    for threads in THREADS:
        torch.set_num_threads(threads)
        inputs = {str(shape): torch.randn(shape) for shape in shapes}
        last = {k: x.contiguous(memory_format=torch.channels_last) for k, x in inputs.items()}

        def rows(inputs, **options):
            return {k: (*batch_norms(x.shape, **options), x) for k, x in inputs.items()}

        table("train mode", rows(inputs), slice(None))
        table("train mode, channels_last", rows(last), slice(None))
        table("eval mode", rows(inputs, training=False), slice(None))
        table("eval mode, channels_last", rows(last, training=False), slice(None))
        table("batch norm + ReLU, train mode", rows(inputs, relu=True), slice(None))
        norms = {
            label: (getattr(nn, name)(*args), getattr(bnn, name)(*args),
                    torch.randn(2 if tiny else shape[0], *shape[1:]))
            for label, (name, args, shape) in NORMS.items()
        }  # fmt: skip
        table("other norms", norms, slice(None))
        training_step(*((4, 8) if tiny else (64, 32)))
        compiled(shapes[:1] if tiny else shapes[:2])
    torch.set_num_threads(before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="tiny tensors: only to see it run")
    main(parser.parse_args().tiny)
