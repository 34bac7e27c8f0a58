"""Dynamic tanh: a bounded function of each element in the place of a norm."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _check, _fx, _script
from bnlib.nn._cpu import definition, memory_format


class DyT(nn.Module):
    r"""Squash each element, then scale and shift it.

    .. math:: y = \gamma \tanh(\alpha x) + \beta

    It takes the place of layer norm in transformers :cite:p:`zhu2025transformers`, but takes no
    statistics, so neither examples nor the elements of one example act on each other.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Lengths of the last axes, each element of which has its own `weight` and `bias`.
    alpha_init : float
        First value of the learned scalar `alpha`.
    elementwise_affine : bool
        Learn `weight` and `bias`, of shape `normalized_shape`.
    bias : bool
        Learn a `bias`, where `elementwise_affine`.
    device, dtype
        Of the parameters.

    Notes
    -----
    The entries `weight` and `bias` of the state dict are those of ``torch.nn.LayerNorm``; `alpha`
    is one more. Float16 and bfloat16 are computed in float32. Double backward works.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import DyT
    >>> DyT(1, alpha_init=1.0)(torch.tensor([[-100.0], [0.0], [100.0]])).detach().flatten()
    tensor([-1.,  0.,  1.])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        *,
        alpha_init: float = 0.5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        is_int = isinstance(normalized_shape, int)
        self.normalized_shape = (normalized_shape,) if is_int else tuple(normalized_shape)
        self.elementwise_affine = elementwise_affine
        self.alpha_init = alpha_init
        options = {"device": device, "dtype": dtype}
        self.alpha = nn.Parameter(torch.empty((), **options))
        for name, present in (("weight", True), ("bias", bias)):
            value = torch.empty(self.normalized_shape, **options)
            is_learned = elementwise_affine and present
            self.register_parameter(name, nn.Parameter(value) if is_learned else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set `alpha` to its first value, scale 1 and shift 0."""
        nn.init.constant_(self.alpha, self.alpha_init)
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    __prepare_scriptable__ = _script.refuse()

    def extra_repr(self) -> str:
        """Return what the representation says of the arguments."""
        return (
            f"{self.normalized_shape}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}, alpha_init={self.alpha_init}"
        )

    def forward(self, input: Tensor) -> Tensor:
        """Squash each element, then scale and shift it.

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
        return definition.affine(torch.tanh(self.alpha * x), self.weight, self.bias, input)
