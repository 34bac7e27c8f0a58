"""Batch norm, forward + backward, train mode, float32: ours against torch and the textbook.

Textbook: Algorithm 1 and the six gradient equations of Section 3 of Ioffe and Szegedy (2015),
line by line in NumPy.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.timing import compare
from bnlib.functional import batch_norm_backward, batch_norm_forward

SHAPES = [(32, 64, 56, 56), (64, 256, 14, 14), (8, 16, 128, 128), (128, 1024)]
EPS = 1e-5


def textbook(x, gamma, beta, dy):
    """Forward and backward as the paper writes them."""
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    m = x.size // x.shape[1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    gamma, beta = gamma.reshape(shape), beta.reshape(shape)

    mean = np.mean(x, axes, keepdims=True)
    var = np.mean((x - mean) ** 2, axes, keepdims=True)
    x_hat = (x - mean) / np.sqrt(var + EPS)
    y = gamma * x_hat + beta

    dx_hat = dy * gamma
    dvar = np.sum(dx_hat * (x - mean) * -0.5 * (var + EPS) ** -1.5, axes, keepdims=True)
    dmean = np.sum(dx_hat * -1 / np.sqrt(var + EPS), axes, keepdims=True)
    dmean += dvar * np.mean(-2 * (x - mean), axes, keepdims=True)
    dx = dx_hat / np.sqrt(var + EPS) + dvar * 2 * (x - mean) / m + dmean / m
    return y, dx, np.sum(dy * x_hat, axes), np.sum(dy, axes)


def ours(x, gamma, beta, dy):
    """Forward and backward of this library."""
    y, cache = batch_norm_forward(x, gamma, beta, eps=EPS)
    return y, *batch_norm_backward(dy, cache)


def peer(x, gamma, beta, dy):
    """Forward and backward of torch on the CPU."""
    y = torch.nn.functional.batch_norm(x, None, None, gamma, beta, True, eps=EPS)
    return y, *torch.autograd.grad(y, (x, gamma, beta), dy)


IMPLEMENTATIONS = {"torch": peer, "ours": ours, "textbook": textbook}


def prepare(name: str, shape: tuple[int, ...]) -> Callable[[], tuple]:
    """Return a call of an implementation with x, gamma, beta and dy of this shape."""
    rng = np.random.default_rng(0)
    shapes = (shape, shape[1:2], shape[1:2], shape)
    arguments = [rng.standard_normal(s, dtype=np.float32) for s in shapes]
    if name == "torch":
        torch.set_num_threads(1)
        arguments = [torch.tensor(a, requires_grad=i < 3) for i, a in enumerate(arguments)]
    return partial(IMPLEMENTATIONS[name], *arguments)


def check(shape: tuple[int, ...]) -> None:
    """See that all implementations give the same."""
    expected, *others = (prepare(name, shape)() for name in IMPLEMENTATIONS)
    for results in others:
        for want, got in zip(expected, results, strict=True):
            np.testing.assert_allclose(got, want.detach(), rtol=1e-3, atol=1e-2)


def main() -> None:
    """Print the table."""
    print(f"{'shape':20} {'ours / torch':>12} {'textbook / ours':>16}")
    ratios = []
    for shape in SHAPES:
        check(shape)
        functions = {name: partial(prepare, name, shape) for name in IMPLEMENTATIONS}
        seconds = compare(functions, rounds=min(max(6, 2**23 // math.prod(shape)), 60))
        ratios.append(seconds["ours"] / seconds["torch"])
        print(
            f"{shape!s:20} {ratios[-1]:12.2f} {seconds['textbook'] / seconds['ours']:16.2f}",
            flush=True,
        )
    print(f"{'geometric mean':20} {math.exp(np.mean(np.log(ratios))):12.2f}")


if __name__ == "__main__":
    main()
