"""The inverse square root of symmetric positive definite matrices, with all its derivatives.

The gradient of an eigendecomposition divides by differences of eigenvalues, and is NaN where two
are equal, as they are in a white covariance. The inverse root itself has no such trouble: its
differential solves a Sylvester equation, whose solution divides by sums of eigenvalues.
"""

import torch
from torch import Tensor


class InverseRoot(torch.autograd.Function):
    r"""S with :math:`S A S = I` for symmetric positive definite A (..., s, s)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(a)
        return (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx, ds: Tensor) -> Tensor:
        a, s = ctx.saved_tensors
        root = _symmetric(a @ s)
        return -Sylvester.apply(root, s @ _symmetric(ds) @ s)


class Sylvester(torch.autograd.Function):
    """X with R X + X R = C, for symmetric positive definite R and symmetric C (..., s, s)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(r: Tensor, c: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(r)
        sums = values.unsqueeze(-1) + values.unsqueeze(-2)
        return vectors @ ((vectors.mT @ c @ vectors) / sums) @ vectors.mT

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx, dx: Tensor) -> tuple[Tensor, Tensor]:
        r, x = ctx.saved_tensors
        dc = Sylvester.apply(r, _symmetric(dx))
        return -_symmetric(dc @ x + x @ dc), dc


def _symmetric(a: Tensor) -> Tensor:
    return (a + a.mT) / 2
