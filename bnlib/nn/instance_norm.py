"""Instance normalization: drop-ins for ``torch.nn.InstanceNorm1d``, ``2d`` and ``3d``."""

from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _fx, _running, _script
from bnlib.nn._cpu import definition, dispatch


class _InstanceNorm(nn.modules.instancenorm._InstanceNorm):
    """What the classes share; torch's classes check the input and add a missing batch axis."""

    refuse_nonfinite = False

    @_script.scripted_as(nn.modules.instancenorm._InstanceNorm.forward)
    def forward(self, input: Tensor) -> Tensor:
        """Normalize each channel of each example.

        Parameters
        ----------
        input : Tensor, (n, c, ...) or (c, ...)
            A mini-batch, or one example, of `num_features` channels.

        Returns
        -------
        Tensor
            The output, of the shape and dtype of `input`, contiguous.

        Raises
        ------
        ValueError
            If `input` has the wrong number of axes, the wrong number of channels, or one value
            per channel.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input)
        return super().forward(input)

    @_script.scripted_as(nn.modules.instancenorm._InstanceNorm._apply_instance_norm)
    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        uses_running = self.track_running_stats and not self.training
        running = (self.running_mean, self.running_var)
        parameters = (self.weight, self.bias)
        fits = dispatch.takes(input, input.shape[1], parameters, running, self.eps)
        if fits and input.shape[0] == 0:  # `len` would make an exported program keep the number
            return definition.affine(
                input, *(definition.per_channel(p, input) for p in parameters), input
            )
        n, c = input.shape[:2]
        count = input.numel() // max(n * c, 1)  # of a Size, torch.jit.trace would keep the number
        if uses_running or not fits or count < 2:
            return super()._apply_instance_norm(input)
        dtype = definition.computing_dtype(input)
        parameters = [None if p is None else p.to(dtype).repeat(n) for p in parameters]
        y, mean, var = dispatch.batch_norm(input.reshape(1, n * c, -1), *parameters, self.eps)
        if self.running_mean is not None:
            mean, var = mean.view(n, c).mean(0), var.view(n, c).mean(0) * (count / (count - 1))
            _running.move(self, mean, var, self.momentum or 0.0)
        return y.view(input.shape)


class InstanceNorm1d(_InstanceNorm, nn.InstanceNorm1d):
    r"""Instance normalization of sequences (n, c, l) or one sequence (c, l).

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma + \beta

    with :math:`\mu` and :math:`\sigma^2` those of one channel of one example
    :cite:p:`ulyanov2016instance`, and :math:`\gamma, \beta` the channel's `weight` and `bias`.

    A drop-in for ``torch.nn.InstanceNorm1d``, of which it is a subclass: the same constructor,
    attributes, state dict, errors, outputs, gradients and buffers.

    Parameters
    ----------
    num_features : int
        Number of channels ``c``.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of the new value in the running statistics. None keeps them as they are, as torch
        does; it is not an average over all mini-batches.
    affine : bool
        Learn `weight` and `bias`.
    track_running_stats : bool
        Keep running statistics, means over the examples, and normalize with them in eval mode.
    device, dtype
        Of parameters and buffers.
    bias : bool
        Learn a `bias`, where `affine`.

    Attributes
    ----------
    refuse_nonfinite : bool
        As of `BatchNorm1d`, for the tracked statistics. It is False until you set it on the layer,
        because the constructor is that of torch.

    Notes
    -----
    torch 2.13 computes this with its batch norm, so what is said in `BatchNorm1d` on constant
    channels, accuracy and speed holds here too. A mini-batch of no examples is an IndexError in
    torch where the layer has parameters; here it gives an output without examples.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import InstanceNorm1d
    >>> InstanceNorm1d(1)(torch.tensor([[[1.0, 3.0]], [[7.0, 7.0]]]))
    tensor([[[-1.0000,  1.0000]],
    <BLANKLINE>
            [[ 0.0000,  0.0000]]])
    """


class InstanceNorm2d(_InstanceNorm, nn.InstanceNorm2d):
    """Instance normalization of images (n, c, h, w) or one image (c, h, w).

    A drop-in for ``torch.nn.InstanceNorm2d``. Parameters, and what differs from torch, are those
    of `InstanceNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import InstanceNorm2d
    >>> InstanceNorm2d(3)(torch.randn(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """


class InstanceNorm3d(_InstanceNorm, nn.InstanceNorm3d):
    """Instance normalization of volumes (n, c, d, h, w) or one volume (c, d, h, w).

    A drop-in for ``torch.nn.InstanceNorm3d``. Parameters, and what differs from torch, are those
    of `InstanceNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import InstanceNorm3d
    >>> InstanceNorm3d(3)(torch.randn(2, 3, 4, 4, 4)).shape
    torch.Size([2, 3, 4, 4, 4])
    """
