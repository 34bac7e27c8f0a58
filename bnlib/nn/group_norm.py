"""Group normalization: a drop-in for ``torch.nn.GroupNorm``."""

from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _fx, _script
from bnlib.nn._cpu import dispatch, memory_format


class GroupNorm(nn.GroupNorm):
    r"""Group normalization of (n, c, ...): each example's channels in `num_groups` groups.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma + \beta

    with :math:`\mu` and :math:`\sigma^2` those of one group of channels of one example
    :cite:p:`wu2018group`, and :math:`\gamma, \beta` the channel's `weight` and `bias`.

    A drop-in for ``torch.nn.GroupNorm``, of which it is a subclass: the same constructor,
    attributes, state dict, errors, outputs and gradients.

    Parameters
    ----------
    num_groups : int
        Number of groups, a divisor of `num_channels`.
    num_channels : int
        Number of channels ``c``.
    eps : float
        Added to the variance.
    affine : bool
        Learn `weight` and `bias`.
    device, dtype
        Of the parameters.
    bias : bool
        Learn a `bias`, where `affine`.

    Notes
    -----
    What differs from torch 2.13 on the CPU, the first two points only with Numba installed (the
    extra ``fast``), as without it torch's own operation runs:

    - torch takes the variance of channels_last input as :math:`E[x^2] - E[x]^2` in float32: at
      mean 10,000 and standard deviation 1 its output is off by more than 1,000. Here sums go
      on in float64, and from values near the mean.
    - A group of equal values gives exactly `bias`; torch is off by 0.027 for values of 10,000 in
      channels_last.
    - Of examples without positions, the gradient of `weight` is 0; torch gives NaN.

    All of this holds also where single operations are watched (``torch.compile``, export, tracing,
    ``torch.func``, forward mode, batched gradients): there the layer is a differentiable
    definition, of whose operations an exported program consists; an ONNX model has the operators
    that it has for ``torch.nn.GroupNorm``, and the digits that its runtime keeps.
    Where torch's own operation runs, without Numba and on other devices than the CPU, it has
    torch's limits: its second derivative cannot be vectorized (``hessian(..., vectorize=True)``).

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import GroupNorm
    >>> y = GroupNorm(2, 4)(torch.arange(8.0).reshape(1, 4, 2))
    >>> y.detach().reshape(2, 4).mean(1).abs().max() < 1e-6
    tensor(True)
    """

    @_script.scripted_as(nn.GroupNorm.forward)
    def forward(self, input: Tensor) -> Tensor:
        """Normalize each group of channels of each example.

        Parameters
        ----------
        input : Tensor, (n, c, ...)
            A mini-batch of `num_channels` channels.

        Returns
        -------
        Tensor
            The output, of the shape, dtype and memory format of `input`.

        Raises
        ------
        ValueError
            If `input` is one example with one value in each group.
        RuntimeError
            If the number of channels does not fit.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input) if _fx.is_leaf(self, input) else super().forward(input)
        arguments = (self.num_groups, self.weight, self.bias, self.eps)
        if not dispatch.takes_groups(input, self.num_channels, *arguments):
            return memory_format.like(super().forward(input), input)
        return dispatch.group_norm(input, *arguments)
