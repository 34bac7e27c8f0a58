"""Weight standardization: a convolution whose filters have mean 0 and variance 1."""

from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _fx, _script
from bnlib.nn._cpu import definition


class WSConv2d(nn.Conv2d):
    r"""Convolution of images with standardized weights.

    .. math:: \hat W_{ij} = \frac{W_{ij} - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}}, \qquad
        y = \hat W * x + b

    with :math:`\mu_i, \sigma_i^2` mean and biased variance of the weights of output channel i
    :cite:p:`qiao2019micro`. Together with `GroupNorm` after it, it is meant for
    mini-batches that are too small for batch norm.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, *args, **options
        Those of ``torch.nn.Conv2d``, of which it is a subclass.
    eps : float
        Added to the variance, more than 0.

    Raises
    ------
    ValueError
        If `eps` is not more than 0, or an output channel has one weight, which would become 0.

    Notes
    -----
    The state dict is that of ``torch.nn.Conv2d``: `weight` holds W, which the optimizer sees.
    `standardized_weight` is what the convolution uses. As in the second version of the paper,
    `eps` stands under the root, and there is no gain: a norm follows. Gradients of `weight` sum
    to 0 in each output channel. Double backward works.

    Examples
    --------
    >>> from bnlib.nn import WSConv2d
    >>> layer = WSConv2d(3, 4, kernel_size=3)
    >>> weight = layer.standardized_weight().detach().flatten(1)
    >>> bool(weight.mean(1).abs().max() < 1e-6), bool((weight.var(1) - 1).abs().max() < 0.05)
    (True, True)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *args: Any,
        eps: float = 1e-5,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *args, **options)
        if not eps > 0:
            raise ValueError(f"eps: expected more than 0, got {eps}")
        if self.weight[0].numel() < 2:
            raise ValueError(
                "kernel_size: expected more than 1 weight per output channel, got weight of shape "
                f"{tuple(self.weight.shape)}"
            )
        self.eps = eps

    __prepare_scriptable__ = _script.refuse()

    def extra_repr(self) -> str:
        """Return what the representation says of the arguments."""
        return f"{super().extra_repr()}, eps={self.eps}"

    def standardized_weight(self) -> Tensor:
        """Return the weights with mean 0 and variance 1 in each output channel.

        Returns
        -------
        Tensor, (out_channels, in_channels / groups, kernel height, kernel width)
            Of the dtype of `weight`.
        """
        return definition.standardize(self.weight, (1, 2, 3), self.eps)[0].to(self.weight.dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve with the standardized weights.

        Parameters
        ----------
        input : Tensor, (n, in_channels, h, w) or (in_channels, h, w)
            Images.

        Returns
        -------
        Tensor
            As of ``torch.nn.Conv2d``.

        Raises
        ------
        RuntimeError
            If the shape or dtype of `input` does not fit.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input)
        return self._conv_forward(input, self.standardized_weight(), self.bias)
