"""Frozen batch normalization: a fixed scale and shift of each channel."""

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.batchnorm import _NormBase

from bnlib.nn import _check, _fx, _running, _script


class _FrozenBatchNorm(_NormBase):
    """What the classes share; they differ in the axes of the input."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        affine: bool = True,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, 0.0, affine, True, device, dtype, bias=bias)
        for name in ("weight", "bias"):
            parameter = getattr(self, name)
            delattr(self, name)
            self.register_buffer(name, None if parameter is None else parameter.detach())

    __prepare_scriptable__ = _script.refuse()

    def extra_repr(self) -> str:
        has_bias = self.bias is not None
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}, bias={has_bias}"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize by the running statistics, in train mode too.

        Parameters
        ----------
        input : Tensor, (n, c, ...)
            A mini-batch of `num_features` channels. It is not modified.

        Returns
        -------
        Tensor
            The output, of the shape and dtype of `input`.

        Raises
        ------
        ValueError
            If the axes or the channels do not fit.
        TypeError
            If the dtype does not fit.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input)
        _check.mini_batch(self, input)
        running = self.running_mean, self.running_var
        return _running.normalize(input, running, (self.weight, self.bias), self.eps)


class FrozenBatchNorm1d(_FrozenBatchNorm):
    r"""Batch normalization of (m, d) or (n, c, l) that never learns and never looks at the batch.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma + \beta

    with :math:`\mu, \sigma^2` the running statistics and :math:`\gamma, \beta` the `weight` and
    `bias`, in train mode as in eval mode. It is what object detectors fine-tune with;
    :cite:t:`wu2021rethinking` discuss when it helps.

    Parameters
    ----------
    num_features : int
        Number of channels ``c`` (or features ``d``).
    eps : float
        Added to the variance. Take that of the layer whose state dict is loaded.
    affine : bool
        Have a `weight` and a `bias`.
    bias : bool
        Have a `bias`, where `affine`.
    device, dtype
        Of the buffers.

    Notes
    -----
    The state dict is that of ``torch.nn.BatchNorm1d``, both ways with ``strict=True``; all five
    entries are buffers. So no optimizer sees `weight` and `bias`, and neither ``.train()`` nor
    ``.requires_grad_()`` thaws the layer. It is no subclass of ``torch.nn.BatchNorm1d``, so that
    what converts or re-estimates batch norms leaves it alone.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from bnlib.nn import FrozenBatchNorm1d
    >>> source = nn.BatchNorm1d(2)
    >>> _ = source(torch.randn(8, 2))
    >>> layer = FrozenBatchNorm1d(2)
    >>> layer.load_state_dict(source.state_dict())
    <All keys matched successfully>
    >>> x = torch.randn(4, 2)
    >>> torch.equal(layer.train()(x), source.eval()(x))
    True
    """

    _check_input_dim = nn.BatchNorm1d._check_input_dim


class FrozenBatchNorm2d(_FrozenBatchNorm):
    """Frozen batch normalization of images (n, c, h, w).

    Definition, parameters and notes are those of `FrozenBatchNorm1d`.

    Examples
    --------
    >>> from bnlib.nn import FrozenBatchNorm2d
    >>> list(FrozenBatchNorm2d(3).parameters())
    []
    """

    _check_input_dim = nn.BatchNorm2d._check_input_dim


class FrozenBatchNorm3d(_FrozenBatchNorm):
    """Frozen batch normalization of volumes (n, c, d, h, w).

    Definition, parameters and notes are those of `FrozenBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import FrozenBatchNorm3d
    >>> FrozenBatchNorm3d(3)(torch.randn(1, 3, 2, 2, 2)).shape
    torch.Size([1, 3, 2, 2, 2])
    """

    _check_input_dim = nn.BatchNorm3d._check_input_dim
