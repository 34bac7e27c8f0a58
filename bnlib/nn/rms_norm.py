"""Root-mean-square normalization: a drop-in for ``torch.nn.RMSNorm``."""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _fx, _script
from bnlib.nn._cpu import definition, dispatch, memory_format


class RMSNorm(nn.RMSNorm):
    r"""Divide each example by its root mean square over the last axes.

    .. math:: y = \frac{x}{\sqrt{\overline{x^2} + \epsilon}}\,\gamma

    Equation 4 of :cite:t:`zhang2019root`, with :math:`\gamma` the `weight` of each normalized
    element.

    A drop-in for ``torch.nn.RMSNorm``, of which it is a subclass: the same constructor,
    attributes, state dict, errors, outputs and gradients.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Lengths of the last axes, over which the mean square is taken.
    eps : float, optional
        Added to the mean square. None: the machine epsilon of the precision of the computation,
        which is float32 for float16 and bfloat16.
    elementwise_affine : bool
        Learn `weight`, of shape `normalized_shape`.
    device, dtype
        Of the parameters.

    Notes
    -----
    torch 2.13 puts this norm together from single operations on the CPU, each a pass through the
    memory. With Numba installed (the extra ``fast``), forward and backward are compiled loops of
    two passes each; without it, and on devices other than the CPU, torch's own operation runs.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import RMSNorm
    >>> y = RMSNorm(2)(torch.tensor([[3.0, 4.0]]))
    >>> round(float(y.detach().square().mean()), 3)
    1.0
    """

    @_script.scripted_as(nn.RMSNorm.forward)
    def forward(self, input: Tensor) -> Tensor:
        """Normalize over the last axes.

        Parameters
        ----------
        input : Tensor, (..., *normalized_shape)
            Examples.

        Returns
        -------
        Tensor
            The output, of the shape, dtype and memory format of `input`.

        Raises
        ------
        RuntimeError
            If the last axes do not have the lengths `normalized_shape`.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input) if _fx.is_leaf(self, input) else super().forward(input)
        eps = self.eps
        if eps is None and input.is_floating_point():
            eps = torch.finfo(definition.computing_dtype(input)).eps
        arguments = (input, self.normalized_shape, self.weight, None, eps)
        if eps is None or not dispatch.takes_last_axis(*arguments):
            return memory_format.like(super().forward(input), input)
        return dispatch.last_axis_norm(*arguments, center=False)
