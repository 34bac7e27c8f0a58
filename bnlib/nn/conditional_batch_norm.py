"""Conditional batch normalization: scale and shift depend on a class or an embedding."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bnlib.nn import _check, _fx, _matmul, _running, _script
from bnlib.nn._cpu import definition, dispatch, memory_format
from bnlib.nn.batch_norm import _BatchNorm


class _ConditionalBatchNorm(_BatchNorm):
    """What the classes share; torch's class, next in line, checks the axes of the input."""

    def __init__(self, num_features: int, *, num_conditions: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        _check.integer("num_conditions", num_conditions, 1)
        if not self.affine:
            raise ValueError("affine: expected True, as the condition acts on it; got False")
        self.num_conditions = num_conditions
        for name in ("weight", "bias"):
            base = getattr(self, name)
            delta = None if base is None else base.new_zeros(num_conditions, num_features)
            self.register_parameter(f"{name}_delta", delta if base is None else nn.Parameter(delta))

    def reset_parameters(self) -> None:
        """Set scale 1 and shift 0, whatever the condition."""
        super().reset_parameters()
        for name in ("weight_delta", "bias_delta"):
            if getattr(self, name, None) is not None:
                nn.init.zeros_(getattr(self, name))

    __prepare_scriptable__ = _script.refuse()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_conditions={self.num_conditions}"

    def forward(self, input: Tensor, condition: Tensor) -> Tensor:
        """Normalize a mini-batch, then scale and shift each example by its condition.

        Parameters
        ----------
        input : Tensor, (n, c, ...)
            A mini-batch of `num_features` channels. It is not modified.
        condition : Tensor of int64 (n,), or of floating point (n, num_conditions)
            The class of each example, or its embedding.

        Returns
        -------
        Tensor
            The output, of the shape and dtype of `input`.

        Raises
        ------
        ValueError
            If axes, channels or the shape of the condition do not fit, a class is out of range,
            in train mode there is one value per channel, or `refuse_nonfinite` refuses.
        TypeError
            If a dtype does not fit. Whatever is raised, the buffers stay as they were.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input, condition)
        _check.mini_batch(self, input)
        _check_condition(condition, input.shape[0], self.num_conditions)
        weight = self.weight + _select(self.weight_delta, condition)
        shape = (*weight.shape, *[1] * (input.dim() - 2))
        weight, bias = weight.view(shape), None
        if self.bias is not None:
            bias = (self.bias + _select(self.bias_delta, condition)).view(shape)
        return definition.affine(self._standardize(input), weight, bias, input)

    def _standardize(self, input: Tensor) -> Tensor:
        """Return x_hat in the precision of the computation, and update the running statistics."""
        x = memory_format.dense(input.to(definition.computing_dtype(input)))
        if not self.training and self.running_mean is not None:
            running = (self.running_mean.to(x.dtype), self.running_var.to(x.dtype))
            return _running.normalize(x, running, (None, None), self.eps)
        count = _check.values_per_channel(input)
        x_hat, mean, var = dispatch.standardize(x, self.eps)
        _running.update(self, mean, var, count)
        return x_hat


def _check_condition(condition: Tensor, n: int, conditions: int) -> None:
    if condition.is_floating_point():
        expected = (n, conditions)
    elif condition.dtype == torch.int64:
        expected = (n,)
    else:
        raise TypeError(f"condition: expected int64 or floating point, got {condition.dtype}")
    if condition.shape != expected:
        raise ValueError(f"condition: expected shape {expected}, got {tuple(condition.shape)}")
    unseen = torch.compiler.is_compiling() or _running.is_transformed()
    if len(expected) == 1 and n and not unseen and _check.has_values(condition):
        least, most = int(condition.min()), int(condition.max())
        if least < 0 or most >= conditions:
            raise ValueError(
                f"condition: expected classes from 0 to {conditions - 1}, got {least} to {most}"
            )


def _select(delta: Tensor, condition: Tensor) -> Tensor:
    """Return the rows of `delta` (k, c) for classes (n,), their mixture for embeddings (n, k)."""
    if condition.is_floating_point():
        return _matmul.exact(condition.to(delta.dtype), delta)
    return delta[condition]


class ConditionalBatchNorm1d(_ConditionalBatchNorm, nn.BatchNorm1d):
    r"""Batch normalization of (m, d) or (n, c, l) with scale and shift from a condition.

    .. math:: y_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}}\,(\gamma + z_i \Delta_\gamma)
        + \beta + z_i \Delta_\beta

    with :math:`z_i` the embedding of example i, (k,), or, for a class, the one-hot vector of it.
    :cite:t:`devries2017modulating` introduce it for embeddings of text;
    :cite:t:`dumoulin2017learned` give each style its own scale and shift.

    Parameters
    ----------
    num_features : int
        Number of channels ``c`` (or features ``d``).
    num_conditions : int
        Number of classes, or length of the embedding: k, at least 1.
    **options
        The other arguments of `BatchNorm1d`, by keyword. ``affine=False`` is refused.

    Raises
    ------
    TypeError, ValueError
        If `num_conditions` is not an integer of at least 1, or `affine` is false.

    Notes
    -----
    `weight` and `bias` (c,) and the buffers are those of `BatchNorm1d`, whose state dict loads
    with ``strict=False``. `weight_delta` and `bias_delta` (k, c) start at 0, so that a pretrained
    model works as before until it has learned to use the condition. Statistics go over the
    mini-batch with all its conditions. Where the paper maps the embedding by a network of two
    layers, put the first in front. Under autocast the mixture is computed in the dtype of the
    parameters, as the rows that classes select are. Double backward works. In compiled code and
    under ``torch.func`` the range of classes is left to torch's indexing, which takes negative
    ones.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import ConditionalBatchNorm1d
    >>> layer = ConditionalBatchNorm1d(1, num_conditions=2)
    >>> with torch.no_grad():
    ...     _ = layer.bias_delta[1].fill_(10)
    >>> layer(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1])).detach().round(decimals=3)
    tensor([[-1.],
            [11.]])
    """


class ConditionalBatchNorm2d(_ConditionalBatchNorm, nn.BatchNorm2d):
    """Batch normalization of images (n, c, h, w) with scale and shift from a condition.

    Definition, parameters and notes are those of `ConditionalBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import ConditionalBatchNorm2d
    >>> layer = ConditionalBatchNorm2d(3, num_conditions=5)
    >>> layer(torch.randn(2, 3, 4, 4), torch.randn(2, 5)).shape
    torch.Size([2, 3, 4, 4])
    """
