"""Ghost batch normalization: the statistics of small parts of the mini-batch."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _check, _fx, _running, _script
from bnlib.nn.batch_norm import _BatchNorm


class _GhostBatchNorm(_BatchNorm):
    """What the classes share; torch's class, next in line, checks the axes of the input."""

    def __init__(self, num_features: int, *, ghost_size: int = 32, **options: Any) -> None:
        super().__init__(num_features, **options)
        _check.integer("ghost_size", ghost_size, 1)
        self.ghost_size = ghost_size

    __prepare_scriptable__ = _script.refuse()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, ghost_size={self.ghost_size}"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each ghost batch by its own statistics; in eval mode by the running ones.

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
            If the axes or channels do not fit, or, in train mode, a ghost batch has one value
            per channel.
        TypeError
            If the dtype does not fit. Whatever is raised, the buffers stay as they were.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input)
        _check.mini_batch(self, input)
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        number = max(input.shape[0] // self.ghost_size, 1)
        ghosts = input.tensor_split(number)
        _check.values_per_channel(ghosts[-1])
        with _running.unchanged_by_failure(self):
            return torch.cat([super(_GhostBatchNorm, self).forward(ghost) for ghost in ghosts])


class GhostBatchNorm1d(_GhostBatchNorm, nn.BatchNorm1d):
    r"""Ghost batch normalization of features (m, d) or sequences (n, c, l).

    .. math:: y_i = \frac{x_i - \mu_{g(i)}}{\sqrt{\sigma_{g(i)}^2 + \epsilon}}\,\gamma + \beta

    Algorithm 1 of :cite:t:`hoffer2017train`, with :math:`g(i)` the ghost batch of example i and
    :math:`\mu_g, \sigma_g^2` its mean and biased variance. It regularizes a large mini-batch as a
    small one does :cite:p:`summers2020four`. In eval mode the layer is `BatchNorm1d`.

    Parameters
    ----------
    num_features : int
        Number of channels ``c`` (or features ``d``).
    ghost_size : int
        Examples in a ghost batch, at least 1.
    **options
        The other arguments of `BatchNorm1d`, by keyword.

    Raises
    ------
    TypeError, ValueError
        If `ghost_size` is not an integer of at least 1.

    Notes
    -----
    A mini-batch of n examples is cut, in its order, into ``k = max(n // ghost_size, 1)`` ghost
    batches whose sizes differ by at most 1: the first ``n % k`` have ``n // k + 1`` examples, the
    others ``n // k``. So a remainder is shared out, and no ghost batch is smaller than
    `ghost_size` unless the mini-batch is.

    Output, gradients and buffers are those of `BatchNorm1d` called on one ghost batch after the
    other: the running statistics move once, and `num_batches_tracked` counts one, for each.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import GhostBatchNorm1d
    >>> layer = GhostBatchNorm1d(1, ghost_size=2)
    >>> layer(torch.tensor([[1.0], [3.0], [10.0], [50.0]])).detach().round(decimals=3).flatten()
    tensor([-1.,  1., -1.,  1.])
    >>> layer.num_batches_tracked
    tensor(2)
    """


class GhostBatchNorm2d(_GhostBatchNorm, nn.BatchNorm2d):
    """Ghost batch normalization of images (n, c, h, w).

    Definition, parameters and notes are those of `GhostBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import GhostBatchNorm2d
    >>> GhostBatchNorm2d(3, ghost_size=2)(torch.randn(5, 3, 4, 4)).shape
    torch.Size([5, 3, 4, 4])
    """


class GhostBatchNorm3d(_GhostBatchNorm, nn.BatchNorm3d):
    """Ghost batch normalization of volumes (n, c, d, h, w).

    Definition, parameters and notes are those of `GhostBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import GhostBatchNorm3d
    >>> GhostBatchNorm3d(3, ghost_size=2)(torch.randn(5, 3, 2, 4, 4)).shape
    torch.Size([5, 3, 2, 4, 4])
    """
