"""Batch normalization: drop-ins for ``torch.nn.BatchNorm1d``, ``2d`` and ``3d``."""

import torch
from torch import Tensor, nn

from bnlib.nn import _fused, _running


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """What the classes share; torch's class checks the shape of the input."""

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

    def forward(self, input: Tensor) -> Tensor:
        """Normalize a mini-batch, in train mode by its own statistics.

        Parameters
        ----------
        input : Tensor, (n, c, ...)
            A mini-batch of `num_features` channels.

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
        self._check_input_dim(input)
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        updates = self.training and self.track_running_stats
        running = (self.running_mean, self.running_var) if updates else (None, None)
        if not _fused.takes(input, self.num_features, (self.weight, self.bias), running, self.eps):
            return self._forward_of_torch(input)
        y, mean, var = _fused.batch_norm(input, self.weight, self.bias, self.eps)
        if self.refuse_nonfinite:
            _running.refuse_nonfinite(mean, var)
        if updates and self.running_mean is not None:
            _running.update(self, mean, var, input.numel() // self.num_features)
        return y

    def _forward_of_torch(self, input: Tensor) -> Tensor:
        """Let torch do, or refuse, what is not for the kernels: other devices, bad input."""
        with _running.unchanged_by_failure(self):
            y = super().forward(input)
            if self.refuse_nonfinite and self.running_mean is not None:
                _running.refuse_nonfinite(self.running_mean, self.running_var)
        return y


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """d1"""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """d2"""


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """d3"""
