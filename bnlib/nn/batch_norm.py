"""Batch normalization: drop-ins for ``torch.nn.BatchNorm1d``, ``2d`` and ``3d``."""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _fx, _running, _script
from bnlib.nn._cpu import definition, dispatch, memory_format


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """What the classes share; torch's class, next in line, checks the axes of the input."""

    refuse_nonfinite = False

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        refuse_nonfinite: bool = False,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )
        self.refuse_nonfinite = refuse_nonfinite

    @_script.scripted_as(nn.modules.batchnorm._BatchNorm.forward)
    def forward(self, input: Tensor) -> Tensor:
        """Normalize a mini-batch: in train mode by its own statistics, else by the running ones.

        Parameters
        ----------
        input : Tensor, (n, c, ...)
            A mini-batch of `num_features` channels. It is not modified.

        Returns
        -------
        Tensor
            The output, of the shape, dtype and memory format of `input`.

        Raises
        ------
        ValueError
            If `input` has the wrong number of axes or, in train mode, one value per channel, or
            statistics that `refuse_nonfinite` refuses. The buffers stay as they were.
        RuntimeError
            If the channels or the dtype do not fit. The buffers stay as they were.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input)
        self._check_input_dim(input)
        parameters, running = (self.weight, self.bias), (None, None)
        if self.track_running_stats or not self.training:
            running = self.running_mean, self.running_var
        if not self.training and running[0] is not None and running[1] is not None:
            return _running.normalize(input, running, parameters, self.eps)
        fits = dispatch.takes(input, self.num_features, parameters, running, self.eps)
        if not fits or input.numel() <= self.num_features:
            return self._forward_of_torch(input)
        watched = definition.is_watched(input, *parameters, *running)
        y, mean, var = dispatch.batch_norm(input, *parameters, self.eps, watched)
        _running.update(self, mean, var, input.numel() // self.num_features, watched=watched)
        return y

    def _forward_of_torch(self, input: Tensor) -> Tensor:
        """Let torch do, or refuse, what is not for the kernels: other devices, bad input."""
        with _running.unchanged_by_failure(self):
            y = super().forward(input)
            if self.refuse_nonfinite and self.running_mean is not None:
                _running.refuse_nonfinite(self.running_mean, self.running_var)
            if self.momentum is None and not input.numel() and _running.tracks(self):
                self.num_batches_tracked.sub_(1)  # it has no mean that could enter theirs
        return memory_format.like(y, input)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    r"""Batch normalization of features (m, d) or sequences (n, c, l).

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma + \beta

    Algorithm 1 of :cite:t:`ioffe2015batch`; :math:`\gamma` and :math:`\beta` are `weight` and
    `bias`, :math:`\mu` and :math:`\sigma^2` mean and biased variance of each channel: those of
    the mini-batch in train mode, the running statistics in eval mode.

    A drop-in for ``torch.nn.BatchNorm1d``, of which it is a subclass: the same constructor,
    attributes, state dict, errors, outputs, gradients and buffers.

    Parameters
    ----------
    num_features : int
        Number of channels ``c`` (or features ``d``).
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of the new value in the running statistics; None for the mean over all
        mini-batches.
    affine : bool
        Learn `weight` and `bias`.
    track_running_stats : bool
        Keep running statistics; without, the mini-batch's own serve in eval mode too.
    device, dtype
        Of parameters and buffers.
    bias : bool
        Learn a `bias`, where `affine`.
    refuse_nonfinite : bool
        Raise ValueError if a mini-batch has NaN or infinite statistics, or ones that the dtype of
        the buffers cannot hold (a float16 ends at 65,504, a variance is a square), and leave the
        running statistics as they were. torch lets one such mini-batch poison them for good. Under
        ``torch.func.vmap``, where values cannot be looked at, every call is a RuntimeError.

    Notes
    -----
    What differs from torch 2.13 on the CPU, the first two points only with Numba installed (the
    extra ``fast``), as without it torch's own operation runs:

    - Sums go on in float64, and from values near the mean. torch adds up channels_last and
      (m, d) input in float32, and loses digits where the mean is large beside the standard
      deviation.
    - A constant channel gives exactly `bias`; torch is off by 0.026 for a constant of 10,000.
    - Parameters and running statistics may have any strides. With channels side by side, torch's
      gradients are silently wrong if they are not contiguous.
    - A call that fails changes no buffer; torch counts it in `num_batches_tracked`.
    - ``torch.compile(fullgraph=True)`` works with ``momentum=None`` too.
    - The output is dense in the memory format of the input (contiguous or channels_last),
      whoever computes it, so that a ``.view`` of it works everywhere or nowhere. Compiled and
      exported, torch gives it the order of axes of the input.
    - With ``momentum=None``, an empty mini-batch is not counted; it has no mean.
    - Running statistics in bfloat16 or float16 arrive at those of the data. torch rounds each
      step towards a mini-batch, and loses the small ones: at a momentum of 0.01 a bfloat16
      running mean stalls some 20 % from where it should go.

    The running variance is the unbiased one (divisor m - 1), the one that normalizes a
    mini-batch is biased, as in torch. Float16 and bfloat16 are computed in float32. Where the
    buffers are float16 or bfloat16, as after ``.bfloat16()``, the layer keeps float32 values of
    the running statistics beside them, from one step in train mode to the next. They are not in
    the state dict, do not outlive a value that is written into a buffer, and do not exist in
    compiled code. There, and with torch's own layer, the remedy is one line: make the batch norms
    of a model float32 again, by ``layer.float()``; they take half-precision input as before. With
    Numba, training runs in compiled loops; their first calls, forward and backward, compile for
    some seconds each and keep the result on disk. Where single operations are watched
    (``torch.compile``, export, tracing, ``torch.func``, forward mode, batched gradients), and for
    second derivatives of the loops, the layer is a differentiable definition, as accurate. On
    devices other than the CPU, torch's own operation runs.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import BatchNorm1d
    >>> layer = BatchNorm1d(2)
    >>> layer(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).detach()
    tensor([[-1.0000,  0.0000],
            [ 1.0000,  0.0000]])
    >>> layer.running_mean
    tensor([0.2000, 0.5000])
    """


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Batch normalization of images (n, c, h, w), each channel by itself.

    A drop-in for ``torch.nn.BatchNorm2d``. Parameters, and what differs from torch, are those of
    `BatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import BatchNorm2d
    >>> layer = BatchNorm2d(3)
    >>> y = layer(torch.randn(8, 3, 5, 5))
    >>> bool(y.mean((0, 2, 3)).abs().max() < 1e-6)
    True
    """


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """Batch normalization of volumes (n, c, d, h, w), each channel by itself.

    A drop-in for ``torch.nn.BatchNorm3d``. Parameters, and what differs from torch, are those of
    `BatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import BatchNorm3d
    >>> BatchNorm3d(3)(torch.randn(2, 3, 4, 4, 4)).shape
    torch.Size([2, 3, 4, 4, 4])
    """
