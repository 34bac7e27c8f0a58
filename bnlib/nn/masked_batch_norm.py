"""Batch normalization of padded sequences: statistics without the padding."""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _check, _fx, _running, _script
from bnlib.nn._cpu import definition, memory_format
from bnlib.nn.batch_norm import _BatchNorm


class MaskedBatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    r"""Batch normalization of sequences (n, c, l) or features (m, d), of which some do not count.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma + \beta, \quad
        \mu = \frac{\sum m x}{\sum m}, \quad \sigma^2 = \frac{\sum m\,(x - \mu)^2}{\sum m}

    with :math:`m` the mask, 1 where a position counts and 0 where it is padding. The mask acts as
    in Keras :cite:p:`kerasdocs`: it decides which positions the statistics of train mode count,
    and every position, padding too, is normalized by them.

    Parameters are those of `BatchNorm1d`, and without a mask the layer is `BatchNorm1d`.

    Notes
    -----
    The running variance is unbiased, with the number of positions that count for m (Keras keeps
    the biased one). Padding must be finite, or it spoils the gradient; its values do not matter
    to the other positions. Double backward works. Under ``torch.func.vmap`` a mask without an axis
    of its own works; a batch of masks is a RuntimeError in train mode, as their counts cannot be
    looked at.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import MaskedBatchNorm1d
    >>> layer = MaskedBatchNorm1d(1)
    >>> x = torch.tensor([[[1.0, 3.0, 0.0]]])
    >>> layer(x, torch.tensor([[True, True, False]])).detach().round(decimals=3)
    tensor([[[-1.,  1., -2.]]])
    """

    __prepare_scriptable__ = _script.refuse()

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalize a mini-batch by the statistics of the positions that count.

        Parameters
        ----------
        input : Tensor, (n, c, l) or (m, d)
            A mini-batch of `num_features` channels. It is not modified.
        mask : Tensor of bool, (n, l) or (m,), optional
            True where a position counts. In eval mode it changes nothing.

        Returns
        -------
        Tensor
            The output, of the shape and dtype of `input`.

        Raises
        ------
        ValueError
            If the axes, channels or the shape of the mask do not fit or, in train mode, fewer
            than 2 positions count, or `refuse_nonfinite` refuses.
        TypeError
            If a dtype does not fit. Whatever is raised, the buffers stay as they were.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input, mask)
        _check.mini_batch(self, input)
        if mask is None:
            _check.statistics_of_batch(self, input)
            return super().forward(input)
        _check_mask(mask, (input.shape[0], *input.shape[2:]))
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        count = _count(mask)
        x_hat, mean, var = _standardize(input, mask.unsqueeze(1), count, self.eps)
        parameters = (definition.per_channel(p, input) for p in (self.weight, self.bias))
        y = definition.affine(x_hat, *parameters, input)
        _running.update(self, mean, var, count)
        return y


def _check_mask(mask: Tensor, shape: tuple[int, ...]) -> None:
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: expected torch.bool, got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"mask: expected shape {shape}, got {tuple(mask.shape)}")


def _count(mask: Tensor) -> int | Tensor:
    """Return how many positions count, and refuse fewer than 2; a tensor in compiled code."""
    count = mask.sum()
    if torch.compiler.is_compiling():
        torch._assert_async(count > 1, "mask: expected at least 2 positions that count")
        return count.double()
    if not _check.has_values(mask) or torch.jit.is_tracing():  # it would keep the number
        return count.double()
    if count < 2:
        raise ValueError(f"mask: expected at least 2 positions that count, got {int(count)}")
    return int(count)


def _standardize(
    x: Tensor, mask: Tensor, count: int | Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x_hat, and the detached mean and biased variance (c,) where `mask` is true."""
    axes = definition.channel_axes(x)

    def average(values: Tensor) -> Tensor:
        return torch.where(mask, values, 0).sum(axes, keepdim=True) / count

    x = memory_format.dense(x.to(definition.computing_dtype(x)))
    mean = average(x)
    difference = x - mean
    left = average(difference)  # what rounding left in the mean
    difference = difference - left
    var = average(difference * difference)
    mean = (mean + left).detach().flatten()
    return difference * torch.rsqrt(var + eps), mean, var.detach().flatten()
