"""Batch norm, forward + backward, train mode, float32: ours against torch and the textbook.

Textbook: Algorithm 1 and the six gradient equations of Section 3 of Ioffe and Szegedy (2015),
line by line in NumPy.
"""

import math

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


def arguments(shape: tuple[int, ...]) -> tuple[list[np.ndarray], list[torch.Tensor]]:
    """Draw x, gamma, beta and dy, for NumPy and for torch."""
    rng = np.random.default_rng(0)
    shapes = (shape, shape[1:2], shape[1:2], shape)
    arrays = [rng.standard_normal(s, dtype=np.float32) for s in shapes]
    tensors = [torch.tensor(a, requires_grad=i < 3) for i, a in enumerate(arrays)]
    return arrays, tensors


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"{'shape':20} {'ours / torch':>12} {'textbook / ours':>16}")
    ratios = []
    for shape in SHAPES:
        arrays, tensors = arguments(shape)
        expected, results, plain = peer(*tensors), ours(*arrays), textbook(*arrays)
        for want, got, same in zip(expected, results, plain, strict=True):
            np.testing.assert_allclose(got, want.detach(), rtol=1e-3, atol=1e-2)
            np.testing.assert_allclose(same, want.detach(), rtol=1e-3, atol=1e-2)
        seconds = compare(
            {
                "torch": lambda tensors=tensors: peer(*tensors),
                "ours": lambda arrays=arrays: ours(*arrays),
                "textbook": lambda arrays=arrays: textbook(*arrays),
            },
            rounds=max(20, 2**27 // math.prod(shape) // 10),
        )
        ratios.append(seconds["ours"] / seconds["torch"])
        print(
            f"{shape!s:20} {ratios[-1]:12.2f} {seconds['textbook'] / seconds['ours']:16.2f}",
            flush=True,
        )
    print(f"{'geometric mean':20} {math.exp(np.mean(np.log(ratios))):12.2f}")


if __name__ == "__main__":
    main()
