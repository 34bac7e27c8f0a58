"""Split batch normalization: own statistics and parameters for each stream of data."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _check, _fx, _script
from bnlib.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d


class _SplitBatchNorm(nn.Module):
    """What the classes share; they differ in the batch norm of each stream."""

    norm: type[nn.Module]

    def __init__(self, num_features: int, *, streams: int = 2, **options: Any) -> None:
        super().__init__()
        _check.integer("streams", streams, 1)
        self.streams = nn.ModuleList(self.norm(num_features, **options) for _ in range(streams))
        self.stream = 0

    @property
    def stream(self) -> int:
        """Number of the stream that the next mini-batch belongs to, 0 at first.

        It is not in the state dict. `use_stream` sets it in a whole model.
        """
        return self._stream

    @stream.setter
    def stream(self, stream: int) -> None:
        _check.integer("stream", stream, 0)
        if stream >= len(self.streams):
            raise ValueError(f"stream: expected less than {len(self.streams)}, got {stream}")
        self._stream = stream

    __prepare_scriptable__ = _script.refuse()

    def extra_repr(self) -> str:
        return f"stream={self.stream}"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize a mini-batch of the chosen stream.

        Parameters
        ----------
        input : Tensor, (n, c, ...)
            A mini-batch, all from one stream.

        Returns
        -------
        Tensor
            The output, of the shape and dtype of `input`.

        Raises
        ------
        ValueError
            If the axes or channels do not fit, there is one value per channel where statistics
            are those of the mini-batch, or `refuse_nonfinite` refuses.
        TypeError
            If the dtype does not fit. Whatever is raised, the buffers stay as they were.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input)
        norm = self.streams[self.stream]
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):  # `surgery.replace` may put others
            _check.mini_batch(norm, input)
            _check.statistics_of_batch(norm, input)
        return norm(input)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Copy the entries of a plain batch norm to each stream."""
        for name in self.streams[0].state_dict():
            if prefix + name in state_dict:
                value = state_dict.pop(prefix + name)
                for i in range(len(self.streams)):  # `assign=True` takes these very tensors
                    state_dict[f"{prefix}streams.{i}.{name}"] = value.detach().clone()
        super()._load_from_state_dict(state_dict, prefix, *args)


class SplitBatchNorm1d(_SplitBatchNorm):
    r"""Batch normalization of (m, d) or (n, c, l) with a batch norm for each stream of data.

    .. math:: y = \frac{x - \mu_s}{\sqrt{\sigma_s^2 + \epsilon}}\,\gamma_s + \beta_s

    with s the chosen stream. It serves data of two kinds, such as clean and adversarial examples,
    whose common statistics would fit neither, as the auxiliary batch norm of
    :cite:t:`xie2020adversarial` does.

    Parameters
    ----------
    num_features : int
        Number of channels ``c`` (or features ``d``).
    streams : int
        Number of streams, at least 1.
    **options
        The other arguments of `BatchNorm1d`, by keyword.

    Attributes
    ----------
    streams : ModuleList of BatchNorm1d
        The batch norm of each stream.

    Raises
    ------
    TypeError, ValueError
        If `streams` or `stream` is not an integer in its range.

    Notes
    -----
    Parameters and buffers of stream s are those of ``streams[s]``, under ``streams.s.`` in the
    state dict. The state dict of a plain batch norm loads too: each stream gets a copy. The other
    way, ``streams[s].state_dict()`` is one of ``torch.nn.BatchNorm1d``. The parameters of streams
    that a step does not use get no gradient.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import SplitBatchNorm1d, use_stream
    >>> layer = SplitBatchNorm1d(1, streams=2)
    >>> with use_stream(layer, 1):
    ...     y = layer(torch.tensor([[9.0], [11.0]]))
    >>> layer.stream, [norm.running_mean.item() for norm in layer.streams]
    (0, [0.0, 1.0])
    """

    norm = BatchNorm1d


class SplitBatchNorm2d(_SplitBatchNorm):
    """Split batch normalization of images (n, c, h, w).

    Definition, parameters and notes are those of `SplitBatchNorm1d`.

    Examples
    --------
    >>> from bnlib.nn import SplitBatchNorm2d
    >>> len(list(SplitBatchNorm2d(3, streams=3).parameters()))
    6
    """

    norm = BatchNorm2d


class SplitBatchNorm3d(_SplitBatchNorm):
    """Split batch normalization of volumes (n, c, d, h, w).

    Definition, parameters and notes are those of `SplitBatchNorm1d`.

    Examples
    --------
    >>> from bnlib.nn import SplitBatchNorm3d
    >>> SplitBatchNorm3d(3).stream
    0
    """

    norm = BatchNorm3d


@contextlib.contextmanager
def use_stream(model: nn.Module, stream: int) -> Iterator[None]:
    """Choose the stream of all split batch norms in a model, and put it back at the end.

    Parameters
    ----------
    model : Module
        A model with split batch norms, or one of them.
    stream : int
        Number of the stream.

    Yields
    ------
    None

    Raises
    ------
    TypeError, ValueError
        If `stream` is not one of the streams of each, or `model` has no split batch norm.

    Examples
    --------
    >>> from torch import nn
    >>> from bnlib.nn import SplitBatchNorm1d, use_stream
    >>> model = nn.Sequential(nn.Linear(2, 3), SplitBatchNorm1d(3))
    >>> with use_stream(model, 1):
    ...     model[1].stream
    1
    """
    layers = [m for m in model.modules() if isinstance(m, _SplitBatchNorm)]
    if not layers:
        raise ValueError("model: expected a model with split batch norms, got one without")
    before = [layer.stream for layer in layers]
    try:
        for layer in layers:
            layer.stream = stream
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.stream = old
