"""Batch normalization of a mini-batch that lies in several processes."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _fx, _running, _script, _sync
from bnlib.nn._cpu import definition
from bnlib.nn.batch_norm import _BatchNorm

OWN_OPERATION = ("cuda", "hpu", "xpu", torch._C._get_privateuse1_backend_name())  # torch has one


class _AnyBatchNorm(_BatchNorm):
    """Batch normalization in one process, of input with any number of axes from two."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")


class SyncBatchNorm(_AnyBatchNorm):
    r"""Batch normalization of (n, c, ...) with the statistics of the mini-batches of all processes.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma + \beta

    with :math:`\mu` and :math:`\sigma^2` those of a channel in one big mini-batch, the parts of
    which lie in the processes of `process_group`; derived in :doc:`/book/beyond_one_machine`. In
    eval mode nothing is sent.

    A drop-in for ``torch.nn.SyncBatchNorm``: the same constructor, attributes, state dict and
    errors.

    Parameters
    ----------
    num_features : int
        Number of channels ``c``.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of the new value in the running statistics; None for the mean over all
        mini-batches.
    affine : bool
        Learn `weight` and `bias`.
    track_running_stats : bool
        Keep running statistics; without, the process's own mini-batch serves in eval mode.
    process_group : ProcessGroup, optional
        The processes that normalize together. None: all of them.
    device, dtype
        Of parameters and buffers.
    bias : bool
        Learn a `bias`, where `affine`.
    refuse_nonfinite : bool
        Raise ValueError in every process if the statistics are NaN or infinite, and leave the
        running statistics as they were.

    Notes
    -----
    What differs from torch 2.13:

    - It works on the CPU, with gloo or whatever has ``all_reduce``; torch refuses CPU tensors.
    - Parts are merged with their counts in float64. They may differ in size and be empty; one
      value in one process is enough if another has one too.
    - The second derivative is right, as that of one big mini-batch is.
    - It is not a subclass of ``torch.nn.SyncBatchNorm``, because ``DistributedDataParallel``
      refuses models on the CPU that have one.

    Without a process group, and with one process, it is plain batch norm. A forward pass sends
    c + 1 and 2c float64 numbers, a backward pass 2c. The gradient of the input is that of the
    sum of all processes' losses; the gradients of `weight` and `bias` are this process's share,
    which ``DistributedDataParallel`` averages. All processes must take part in each call, also
    one that has no data; one that stays away or fails leaves the others waiting until the
    timeout of their group. On devices where torch has an operation of its own, that runs.

    ``torch.compile`` cuts its graph where processes talk to each other, and ``fullgraph=True`` is
    an error there. In one process it is one graph.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import SyncBatchNorm
    >>> layer = SyncBatchNorm(2)  # no process group: plain batch norm
    >>> layer(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).detach()
    tensor([[-1.0000,  0.0000],
            [ 1.0000,  0.0000]])
    """

    process_group: dist.ProcessGroup | None = None
    __prepare_scriptable__ = _script.refuse("call revert_sync_batchnorm on the model first")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: dist.ProcessGroup | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        refuse_nonfinite: bool = False,
    ) -> None:
        options = {"bias": bias, "refuse_nonfinite": refuse_nonfinite}
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, **options
        )
        self.process_group = process_group

    def forward(self, input: Tensor) -> Tensor:
        """Normalize this process's part of a mini-batch.

        Parameters
        ----------
        input : Tensor, (n, c, ...)
            The part, of `num_features` channels. It may be empty.

        Returns
        -------
        Tensor
            The output, of the shape, dtype and memory format of `input`.

        Raises
        ------
        ValueError
            If `input` has fewer than two axes or no channels or, in train mode, all processes
            together have fewer than two values per channel, or statistics that
            `refuse_nonfinite` refuses. The buffers stay as they were.
        RuntimeError
            If the channels or the dtype do not fit. The buffers stay as they were.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input)
        self._check_input_dim(input)
        self._check_non_zero_input_channels(input)
        group = self._group() if self.training else None
        if group is None:
            return super().forward(input)
        if input.device.type in OWN_OPERATION:
            with _running.unchanged_by_failure(self):
                return nn.SyncBatchNorm.forward(self, input)
        self._check_part(input)
        y, mean, var, count = _sync.batch_norm(input, self.weight, self.bias, self.eps, group)
        _running.update(self, mean, var, count)
        return y

    def _group(self) -> dist.ProcessGroup | None:
        """Return the processes to talk to, if there are any."""
        if not (dist.is_available() and dist.is_initialized()):
            return None
        group = self.process_group or dist.group.WORLD
        return group if dist.get_world_size(group) > 1 else None

    def _check_non_zero_input_channels(self, input: Tensor) -> None:
        if input.size(1) == 0:
            raise ValueError("SyncBatchNorm number of input channels should be non-zero")

    def _check_part(self, input: Tensor) -> None:
        """Refuse what does not fit before anything is sent."""
        if input.shape[1] != self.num_features:
            raise RuntimeError(
                f"input: expected {self.num_features} channels, got shape {tuple(input.shape)}"
            )
        if not input.is_floating_point():
            raise RuntimeError(f"input: expected floating-point values, got {input.dtype}")
        allowed = (input.dtype, definition.computing_dtype(input))
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(self, name)
            if value is not None and value.dtype not in allowed:
                raise RuntimeError(
                    f"input: expected the dtype {value.dtype} of {name}, got {input.dtype}"
                )

    @classmethod
    def convert_sync_batchnorm(
        cls, module: nn.Module, process_group: dist.ProcessGroup | None = None
    ) -> nn.Module:
        """Call `bnlib.nn.convert_sync_batchnorm`, as ``torch.nn.SyncBatchNorm`` has it."""
        from bnlib.nn.sync_conversion import convert_sync_batchnorm

        return convert_sync_batchnorm(module, process_group)
