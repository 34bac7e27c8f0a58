"""Norms for PyTorch on the CPU, float32: torch.nn against bnlib.nn in Numba's loops.

Without Numba, bnlib.nn runs torch's own operations, and there is nothing to compare.

All numbers are ratios of times taken turn by turn in one run: torch's time over ours. The column
`x copy` says how far ours is from the memory bound, as a multiple of the time of a copy: of the
input for the forward pass, of input and upstream gradient for both passes. The
processes keep the memory that they free (see `benchmarks.timing.compare`). Eval mode and the step
of a ResNet run as a user would run them, in one process for all. `python -m benchmarks.nn --tiny`
shows in some minutes, most of which start processes, that everything runs.
"""

import argparse
import copy
import math
import pickle
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.timing import alternate, compare
from bnlib import nn as bnn
from bnlib.nn._cpu import dispatch

SHAPES = [
    (32, 64, 56, 56),
    (64, 256, 14, 14),
    (8, 16, 128, 128),
    (16, 512, 7, 7),
    (32, 3, 224, 224),
]
SMALL = [(60, 100), (32, 16, 8, 8)]  # where the calls cost more than the values
TINY = [(4, 16, 6, 6), (2, 3, 8, 8)]
THREADS = (1, 2)
NORMS = {
    "LayerNorm(768)": ("LayerNorm", (768,), (8192, 768)),
    "RMSNorm(768)": ("RMSNorm", (768,), (8192, 768)),
    "GroupNorm(32, 64)": ("GroupNorm", (32, 64), (32, 64, 56, 56)),
    "InstanceNorm2d(64)": ("InstanceNorm2d", (64,), (32, 64, 56, 56)),
}  # fmt: skip


def contenders(peer: nn.Module, ours: nn.Module, prepare: Callable, *arguments) -> dict:
    """Return what `benchmarks.timing.compare` takes: torch's module and ours."""
    pairs = {"torch": peer, "numba": ours}
    threads = torch.get_num_threads()
    return {
        name: partial(prepare, name, threads, pickle.dumps(module), *arguments)
        for name, module in pairs.items()
    }


def load(name: str, threads: int, pickled: bytes) -> nn.Module:
    """Set up a process that times one contender."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return pickle.loads(pickled)


def tensor(shape: tuple[int, ...], last: bool) -> Tensor:
    """Draw an input, channels_last or contiguous."""
    x = torch.randn(shape)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def both_passes(module: nn.Module, x: Tensor) -> Callable:
    """Return a function that calls the module and computes all its gradients."""
    leaf, dy = x.clone().requires_grad_(), torch.randn_like(x)
    return lambda: torch.autograd.grad(module(leaf), (leaf, *module.parameters()), dy)


def forward(name: str, threads: int, pickled: bytes, shape, last: bool) -> Callable:
    """Prepare a call of the module."""
    return partial(load(name, threads, pickled), tensor(shape, last))


def forward_backward(name: str, threads: int, pickled: bytes, shape, last: bool) -> Callable:
    """Prepare a call of the module and of all its gradients."""
    return both_passes(load(name, threads, pickled), tensor(shape, last))


def compiled_forward(name: str, threads: int, pickled: bytes, shape, mode: Callable) -> Callable:
    """Prepare the same of torch.compile of torch's module, or of ours as it is."""
    call = mode(name, threads, pickled, shape, False)
    if name != "torch":
        return call
    module = torch.compile(load(name, threads, pickled))
    x = tensor(shape, False)
    return partial(module, x) if mode is forward else both_passes(module, x)


def copying(threads: int, shape, last: bool, tensors: int) -> Callable:
    """Prepare a copy of the input, or of the input and its like."""
    torch.set_num_threads(threads)
    originals = [tensor(shape, last) for _ in range(tensors)]
    return lambda: [original.clone() for original in originals]


MODES = {"forward": forward, "forward + backward": forward_backward}


def error(results: tuple, exact: tuple) -> float:
    """Largest distance to float64 relative to the largest value, over all results."""
    pairs = [(a.detach(), b.detach()) for a, b in zip(results, exact, strict=True)]
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in pairs)


def timed(functions: dict, shape: tuple[int, ...]) -> dict[str, float]:
    """Seconds of each function, with more rounds for smaller tensors."""
    size = math.prod(shape)
    rounds = 1 if size < 2**16 else max(8, min(40, 2**23 // size))
    return compare(functions, rounds, keep_memory=True)


def table(title: str, rows: dict[str, tuple], last: bool = False) -> None:
    """Time each row's pair of modules on a shape and print one line for each mode."""
    threads = torch.get_num_threads()
    print(f"\n{title}, {threads} thread(s)")
    print(f"{'':22} {'':19} {'numba':>7} {'x copy':>7} {'error':>8} {'torch':>8}")
    ratios: dict[str, list[float]] = {mode: [] for mode in MODES}
    for label, (peer, ours, shape) in rows.items():
        copies = {
            mode: partial(copying, threads, shape, last, tensors)
            for tensors, mode in enumerate(MODES, start=1)
        }
        copied = timed(copies, shape)
        x = tensor(shape, last)
        wanted = copy.deepcopy(peer).double()(x.double())
        errors = [error((copy.deepcopy(m)(x),), (wanted,)) for m in (ours, peer)]
        for mode, prepare in MODES.items():
            seconds = timed(contenders(peer, ours, prepare, shape, last), shape)
            ratio = seconds["torch"] / seconds["numba"]
            ratios[mode].append(ratio)
            print(f"{label:22} {mode:19} {ratio:7.2f} {seconds['numba'] / copied[mode]:7.2f} "
                  f"{errors[0]:8.0e} {errors[1]:8.0e}", flush=True)  # fmt: skip
    for mode, values in ratios.items():
        mean = math.exp(sum(map(math.log, values)) / len(values))
        print(f"geometric mean, {mode}: {mean:.2f} (lowest {min(values):.2f})")


def batch_norms(shape, *, training=True, relu=False):
    """Return torch's batch norm and ours, in a mode, each followed by ReLU or not."""
    modules = [getattr(m, f"BatchNorm{max(len(shape) - 2, 1)}d")(shape[1]) for m in (nn, bnn)]
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


def step(network: nn.Module, x: Tensor, labels: Tensor) -> Callable:
    """Prepare a step of training: forward, backward, update."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01)

    def call():
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()

    return call


def eval_mode(shapes: list[tuple[int, ...]], last: bool = False) -> None:
    """Time eval mode, where both modules call torch's operation, in this process.

    Between processes the same operation differs by more than the two calls of it can.
    """
    layout = "channels_last, " if last else ""
    print(f"\neval mode, {layout}{torch.get_num_threads()} thread(s)")
    for shape in shapes:
        (peer, ours), x = batch_norms(shape, training=False), tensor(shape, last)
        for mode, prepare in zip(MODES, (partial, both_passes), strict=True):
            calls = {"torch": prepare(peer, x), "ours": prepare(ours, x)}
            seconds = alternate(calls, rounds=100)
            print(f"{shape!s:22} {mode:19} {seconds['torch'] / seconds['ours']:7.2f}", flush=True)


def training_step(examples: int, size: int) -> None:
    """Time a whole step of a small ResNet, all contenders in this process.

    Most of a step are convolutions, and their time depends on where the memory of a process lies:
    from process to process it changes by more than the norms take.
    """
    torch.manual_seed(0)
    x, labels = torch.randn(examples, 3, size, size), torch.randint(0, 10, (examples,))
    calls = {m.__name__: step(resnet(m.BatchNorm2d), x, labels) for m in (nn, bnn)}
    torchs, ours = alternate(calls, rounds=2 if size < 32 else 40).values()
    print(
        f"\nstep of a ResNet, {torch.get_num_threads()} thread(s): {torchs / ours:.2f}", flush=True
    )


def compiled(shapes: list[tuple[int, ...]]) -> None:
    """Time torch.compile of torch's module against our eager one."""
    print(f"\ntorch.compile(torch.nn) / bnlib.nn, {torch.get_num_threads()} thread(s)")
    for shape in shapes:
        for mode, prepare in MODES.items():
            arguments = (*batch_norms(shape), compiled_forward, shape, prepare)
            seconds = timed(contenders(*arguments), shape)
            ratio = seconds["torch"] / seconds["numba"]
            print(f"{shape!s:22} {mode:19} {ratio:7.2f}", flush=True)


def main(tiny: bool = False) -> None:
    """Print all tables."""
    if dispatch.kernel() is None:
        raise SystemExit("benchmarks.nn: without Numba, bnlib.nn runs torch's own operations")
    before, shapes = torch.get_num_threads(), TINY if tiny else SHAPES

    def rows(shapes=shapes, **options):
        return {str(shape): (*batch_norms(shape, **options), shape) for shape in shapes}

    for threads in THREADS:
        torch.set_num_threads(threads)
        table("train mode", rows())
        table("train mode, channels_last", rows(), last=True)
        eval_mode(SMALL + shapes)
        eval_mode(shapes, last=True)
        table("batch norm + ReLU, train mode", rows(relu=True))
        norms = {
            label: (getattr(nn, name)(*args), getattr(bnn, name)(*args),
                    (2 if tiny else shape[0], *shape[1:]))
            for label, (name, args, shape) in NORMS.items()
        }  # fmt: skip
        table("other norms", norms)
        table("train mode, small tensors", rows(SMALL))
        training_step(*((4, 8) if tiny else (64, 32)))
        compiled(shapes[:1] if tiny else shapes[:2])
    torch.set_num_threads(before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="tiny tensors: only to see it run")
    main(parser.parse_args().tiny)
