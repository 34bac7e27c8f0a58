"""Weight standardization against NumPy and torch's convolution."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from bnlib import functional as bn
from bnlib import nn as bnn


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_convolves_with_standardized_weights(groups, padding_mode):
    options = {"groups": groups, "padding": 1, "padding_mode": padding_mode, "stride": 2}
    module = bnn.WSConv2d(4, 6, (2, 3), eps=0.01, dtype=torch.float64, **options)
    weight = module.weight.detach().numpy().reshape(6, -1)
    mean, var = weight.mean(1, keepdims=True), weight.var(1, keepdims=True)
    expected = ((weight - mean) / np.sqrt(var + 0.01)).reshape(module.weight.shape)
    np.testing.assert_allclose(module.standardized_weight().detach(), expected)
    peer = nn.Conv2d(4, 6, (2, 3), dtype=torch.float64, **options)
    peer.load_state_dict(module.state_dict(), strict=True)
    module.load_state_dict(peer.state_dict(), strict=True)
    peer.weight.data.copy_(torch.tensor(expected))
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(module(x), peer(x))


def test_gradient_of_the_weights_is_that_of_standardization():
    module = bnn.WSConv2d(2, 3, 2, dtype=torch.float64)
    x, dy = (
        torch.randn(2, 2, 4, 4, dtype=torch.float64),
        torch.randn(2, 3, 3, 3, dtype=torch.float64),
    )
    module(x).backward(dy)
    z = bn.standardize(module.weight.detach().numpy(), (1, 2, 3), eps=module.eps)
    w_hat = torch.tensor(z.x_hat, requires_grad=True)
    (upstream,) = torch.autograd.grad(F.conv2d(x, w_hat), w_hat, dy)
    np.testing.assert_allclose(
        module.weight.grad, bn.standardize_backward(upstream.numpy(), z), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(module.weight.grad.sum((1, 2, 3)), 0, atol=1e-10)


def test_scale_and_shift_of_the_weights_do_not_matter():
    module = bnn.WSConv2d(2, 3, 2, dtype=torch.float64, eps=1e-12)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    before = module(x)
    with torch.no_grad():
        module.weight.mul_(5).add_(3)
    torch.testing.assert_close(module(x), before)


def test_one_weight_per_output_channel_is_refused():
    with pytest.raises(ValueError, match="kernel_size"):
        bnn.WSConv2d(3, 3, 1, groups=3)
