"""Scale norm: every example on a sphere whose radius is learned."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _check, _fx, _script
from bnlib.nn._cpu import definition, memory_format


class ScaleNorm(nn.Module):
    r"""Divide each example by its length over the last axes, and scale by one learned number.

    .. math:: y = g\,\frac{x}{\lVert x \rVert}

    with g the `weight`, a scalar, :math:`\sqrt d` at first for d normalized elements: then it is
    `RMSNorm` with one weight for all elements. It takes the place of layer norm in transformers
    :cite:p:`nguyen2019transformers`.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Lengths of the last axes, over which the length is taken.
    eps : float
        Least length that is divided by, more than 0: an example of zeros stays one.
    device, dtype
        Of the parameter.

    Raises
    ------
    ValueError
        If `eps` is not more than 0.

    Notes
    -----
    `eps` bounds the length, :math:`\max(\lVert x \rVert, \epsilon)`, as in the authors' code; it
    is not added under the root. Float16 and bfloat16 are computed in float32. Double backward
    works where x is not 0.

    Examples
    --------
    >>> import math
    >>> import torch
    >>> from bnlib.nn import ScaleNorm
    >>> layer = ScaleNorm(2)
    >>> layer(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).detach() / math.sqrt(2)
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps: expected more than 0, got {eps}")
        is_int = isinstance(normalized_shape, int)
        self.normalized_shape = (normalized_shape,) if is_int else tuple(normalized_shape)
        self.eps = eps
        self.weight = nn.Parameter(torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the scale to the root of the number of elements."""
        nn.init.constant_(self.weight, math.sqrt(math.prod(self.normalized_shape)))

    __prepare_scriptable__ = _script.refuse()

    def extra_repr(self) -> str:
        """Return what the representation says of the arguments."""
        return f"{self.normalized_shape}, eps={self.eps}"

    def forward(self, input: Tensor) -> Tensor:
        """Bring each example to length `weight`.

        Parameters
        ----------
        input : Tensor, (..., *normalized_shape)
            Examples.

        Returns
        -------
        Tensor
            The output, of the shape and dtype of `input`.

        Raises
        ------
        ValueError
            If the last axes do not have the lengths `normalized_shape`.
        TypeError
            If `input` is not of floating point.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input)
        _check.last_axes(input, self.normalized_shape)
        x = memory_format.dense(input.to(definition.computing_dtype(input)))
        axes = tuple(range(-len(self.normalized_shape), 0))
        length = torch.linalg.vector_norm(x, dim=axes, keepdim=True).clamp_min(self.eps)
        return (x * (self.weight / length)).to(input.dtype)
