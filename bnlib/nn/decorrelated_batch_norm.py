"""Decorrelated batch normalization: channels with the identity for a covariance."""

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.batchnorm import _NormBase

from bnlib.nn import _check, _fx, _matmul, _running, _script
from bnlib.nn._cpu import definition, memory_format
from bnlib.nn._inverse_root import InverseRoot


class _DecorrelatedBatchNorm(_NormBase):
    """What the classes share; they differ in the axes of the input."""

    def __init__(
        self,
        num_features: int,
        *,
        group_size: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        bias: bool = True,
    ) -> None:
        size = num_features if group_size is None else group_size
        _check.integer("group_size", size, 1)
        if num_features % size:
            raise ValueError(
                f"group_size: expected a divisor of num_features, {num_features}, got {size}"
            )
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )
        self.group_size = size
        del self.running_var
        cov = None
        if track_running_stats:
            eye = torch.eye(size, device=device, dtype=dtype)
            cov = eye.repeat(num_features // size, 1, 1)
        self.register_buffer("running_cov", cov)

    def reset_running_stats(self) -> None:
        """Set mean 0, covariance the identity, and no mini-batch counted."""
        if getattr(self, "running_cov", None) is not None:
            self.running_mean.zero_()
            self.running_cov.copy_(torch.eye(self.group_size, device=self.running_cov.device))
            self.num_batches_tracked.zero_()

    __prepare_scriptable__ = _script.refuse()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, group_size={self.group_size}"

    def forward(self, input: Tensor) -> Tensor:
        """Whiten the channels of a mini-batch, group by group.

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
            If the axes or channels do not fit or, in train mode, there is one value per channel,
            or a value that is NaN or infinite.
        TypeError
            If the dtype does not fit. Whatever is raised, the buffers stay as they were.
        """
        if isinstance(input, Proxy):
            return _fx.leaf(self, input)
        _check.mini_batch(self, input)
        x = input.to(definition.computing_dtype(input)).movedim(1, 0)  # (c, n, ...)
        values = x.flatten(1).unflatten(0, (-1, self.group_size))  # (groups, size, m)
        uses_running = not self.training and self.running_mean is not None
        if uses_running:
            mean = self.running_mean.view(-1, self.group_size, 1)
            cov = self.running_cov
            centred = values - mean
        else:
            count = _check.values_per_channel(input)
            centred, mean, cov = _moments(values)
        _finite("running_cov" if uses_running else "input", cov)
        x_hat = _matmul.exact(self._whitening(cov).to(x.dtype), centred)
        x_hat = x_hat.reshape(x.shape).movedim(0, 1)
        parameters = (definition.per_channel(p, input) for p in (self.weight, self.bias))
        y = memory_format.like(definition.affine(x_hat, *parameters, input), input)
        if _running.tracks(self):
            self._update(mean.detach().flatten(), cov.detach() * (count / (count - 1)))
        return y

    def _whitening(self, cov: Tensor) -> Tensor:
        eye = torch.eye(self.group_size, device=cov.device, dtype=torch.float64)
        return InverseRoot.apply(cov.double() + self.eps * eye)

    def _update(self, mean: Tensor, cov: Tensor) -> None:
        weight = _running.weight_of_new(self)
        new = {"running_mean": mean, "running_cov": cov}
        new = {name: _running.blend(self, name, new[name], weight) for name in new}
        sounds = [_finite(name, value) for name, value in _running.as_stored(self, new).items()]
        sound = sounds[0] & sounds[1]
        _running.store(self, new, sound)
        _running.count_batch(self, sound)


def _finite(name: str, values: Tensor) -> Tensor:
    """Return whether all is finite; refuse what is not, where it can be looked at."""
    finite = torch.isfinite(values).all()
    if torch.compiler.is_compiling():
        torch._assert_async(finite, f"{name}: expected finite values")
    elif not _running.is_transformed() and _check.has_values(finite) and not bool(finite):
        raise ValueError(
            f"{name}: expected finite values, got NaN or infinity, in {values.dtype}, in the "
            "covariance or the mean"
        )
    return finite


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return `values` (g, s, m) less their mean, the mean (g, s, 1), the covariance (g, s, s)."""
    mean = values.mean(2, keepdim=True)
    centred = values - mean
    left = centred.mean(2, keepdim=True)  # what rounding left in the mean
    centred = centred - left
    return centred, mean + left, _matmul.exact(centred, centred.mT) / values.shape[2]


class DecorrelatedBatchNorm1d(_DecorrelatedBatchNorm):
    r"""Whitening of features (m, d) or sequences (n, c, l): batch norm with the covariance.

    .. math:: y = \gamma \odot (\Sigma + \epsilon I)^{-1/2}\,(x - \mu) + \beta

    with :math:`\mu` and :math:`\Sigma` mean and biased covariance (divisor m) of the channels of
    one group: those of the mini-batch in train mode, the running ones in eval mode
    :cite:p:`huang2018decorrelated`. The root is the symmetric one (ZCA): of all whitenings the
    one that changes x least. With groups of one channel, it is `BatchNorm1d`.

    Parameters
    ----------
    num_features : int
        Number of channels ``c`` (or features ``d``).
    group_size : int, optional
        Number s of neighbouring channels that are whitened together, a divisor of
        `num_features`; None for all of them.
    eps : float
        Added to the diagonal of the covariance.
    momentum : float or None
        Weight of the new value in the running statistics; None for the mean over all
        mini-batches.
    affine : bool
        Learn `weight` and `bias`, of each channel.
    track_running_stats : bool
        Keep running statistics; without, the mini-batch's own serve in eval mode too.
    device, dtype
        Of parameters and buffers.
    bias : bool
        Learn a `bias`, where `affine`.

    Raises
    ------
    TypeError, ValueError
        If `group_size` is not an integer that divides `num_features`.

    Notes
    -----
    The output has the identity for a covariance, up to `eps`, only if there are more values per
    channel than channels in a group; else :math:`\Sigma` is singular and `eps` decides, so keep
    groups small. `running_cov` (c / s, s, s) takes the place of `running_var`, and gets the
    unbiased covariance as that gets the unbiased variance.

    The root comes from an eigendecomposition in float64, of cost :math:`O(c s^2)`, because it is
    exact: Newton-Schulz iterations stop short for ill-conditioned covariances, and a Cholesky
    factor depends on the order of the channels. Its gradient is taken through the Sylvester
    equation of the root, which stays finite where eigenvalues are equal; the gradient of the
    eigenvectors does not. Double backward, ``torch.func`` and ``torch.compile(fullgraph=True)``
    work; export to ONNX, which has no eigendecomposition, does not. Values that are not finite
    are a RuntimeError in compiled code. Under ``torch.func``, which cannot look at them, they are
    refused or spread to the output, as the eigendecomposition has it, and spare the buffers.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import DecorrelatedBatchNorm1d
    >>> x = torch.randn(500, 3) @ torch.tensor([[1.0, 2, 0], [0, 1, 0], [3, 0, 1]])
    >>> y = DecorrelatedBatchNorm1d(3)(x)
    >>> torch.allclose(y.T.cov(correction=0), torch.eye(3), atol=1e-3)
    True
    """

    _check_input_dim = nn.BatchNorm1d._check_input_dim


class DecorrelatedBatchNorm2d(_DecorrelatedBatchNorm):
    """Whitening of the channels of images (n, c, h, w).

    Definition, parameters and notes are those of `DecorrelatedBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import DecorrelatedBatchNorm2d
    >>> DecorrelatedBatchNorm2d(6, group_size=3)(torch.randn(4, 6, 5, 5)).shape
    torch.Size([4, 6, 5, 5])
    """

    _check_input_dim = nn.BatchNorm2d._check_input_dim


class DecorrelatedBatchNorm3d(_DecorrelatedBatchNorm):
    """Whitening of the channels of volumes (n, c, d, h, w).

    Definition, parameters and notes are those of `DecorrelatedBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> from bnlib.nn import DecorrelatedBatchNorm3d
    >>> DecorrelatedBatchNorm3d(4, group_size=2)(torch.randn(2, 4, 3, 3, 3)).shape
    torch.Size([2, 4, 3, 3, 3])
    """

    _check_input_dim = nn.BatchNorm3d._check_input_dim
