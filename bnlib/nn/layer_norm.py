"""Layer normalization: a drop-in for ``torch.nn.LayerNorm``."""

from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _fx, _script
from bnlib.nn._cpu import dispatch


class LayerNorm(nn.LayerNorm):
    r"""Layer normalization over the last axes of the input, each example by itself.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma + \beta

    Equations 3 and 4 of :cite:t:`ba2016layer`, with :math:`\gamma, \beta` the `weight` and `bias`
    of each normalized element.

    A drop-in for ``torch.nn.LayerNorm``, of which it is a subclass: the same constructor,
    attributes, state dict, errors, outputs and gradients.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Lengths of the last axes, over which mean and variance are taken.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Learn `weight` and `bias`, of shape `normalized_shape`.
    bias : bool
        Learn a `bias`, where `elementwise_affine`.
    device, dtype
        Of the parameters.

    Notes
    -----
    With Numba installed, sums go on in float64 and from values near the mean, so that a mean of
    10,000 standard deviations costs no digits; torch 2.13 loses four. Without Numba it is
    torch's own kernel.

    Where single operations are watched (``torch.compile``, export, tracing, ``torch.func``,
    forward mode, batched gradients), the layer is a differentiable definition, with Numba or
    without, which costs no digits either. So an exported program has the operations of the
    definition, not the one of layer norm; an ONNX model has ONNX's operator, and the digits that
    its runtime keeps. On devices other than the CPU, torch's own operation runs.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import LayerNorm
    >>> LayerNorm(2)(torch.tensor([[1.0, 3.0], [7.0, 7.0]])).detach()
    tensor([[-1.0000,  1.0000],
            [ 0.0000,  0.0000]])
    """

    @_script.scripted_as(nn.LayerNorm.forward)
    def forward(self, input: Tensor) -> Tensor:
        """Normalize over the last axes.

        Parameters
        ----------
        input : Tensor, (..., *normalized_shape)
            Examples.

        Returns
        -------
        Tensor
            The output, of the shape and dtype of `input`, contiguous.

        Raises
        ------
        RuntimeError
            If the last axes do not have the lengths `normalized_shape`.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input) if _fx.is_leaf(self, input) else super().forward(input)
        arguments = (self.normalized_shape, self.weight, self.bias, self.eps)
        if not dispatch.takes_last_axis(input, *arguments):
            return super().forward(input)
        return dispatch.last_axis_norm(input, *arguments, center=True)
