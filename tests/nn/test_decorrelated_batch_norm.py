"""Decorrelated batch norm against NumPy, SciPy, the identity, and batch norm."""

import numpy as np
import pytest
import scipy.linalg
import torch
from random_inputs import SEED
from torch import nn

from bnlib import functional as bn
from bnlib import nn as bnn
from bnlib.nn._inverse_root import InverseRoot

FLOAT64 = torch.float64
EPS = 0.01
SHAPES = {"1d": (40, 6), "2d": (6, 6, 3, 4), "3d": (4, 6, 2, 3, 2)}


def mixed(shape):
    """A mini-batch with correlated channels."""
    generator = torch.Generator().manual_seed(1 + SEED)
    mixing = torch.randn(shape[1], shape[1], generator=generator, dtype=FLOAT64)
    return 3 + torch.einsum("ij,nj...->ni...", mixing, torch.randn(shape, dtype=FLOAT64))


def rows(x):
    return x.detach().movedim(1, 0).flatten(1).numpy()  # (c, m)


def zca(x, mean, cov, size):
    """Each group of rows of x (c, m), whitened with SciPy's matrix power."""
    centred = x - mean[:, None]
    roots = [scipy.linalg.fractional_matrix_power(c + EPS * np.eye(size), -0.5) for c in cov]
    return np.concatenate([s @ centred[i * size : (i + 1) * size] for i, s in enumerate(roots)])


def covariances(x, size, ddof=0):
    return np.stack(
        [np.cov(g, ddof=ddof).reshape(size, size) for g in x.reshape(-1, size, x.shape[1])]
    )


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_both_modes_are_zca_whitening(axes, size):
    module = getattr(bnn, f"DecorrelatedBatchNorm{axes}")(
        6, eps=EPS, momentum=0.3, dtype=FLOAT64, group_size=size
    )
    with torch.no_grad():
        module.weight.normal_()
        module.bias.normal_()
    weight, bias = (p.detach().numpy()[:, None] for p in module.parameters())
    mean, cov = np.zeros(6), np.stack([np.eye(size)] * (6 // size))
    for _ in range(2):
        x = mixed(SHAPES[axes])
        v = rows(x)
        expected = zca(v, v.mean(1), covariances(v, size), size)
        np.testing.assert_allclose(rows(module(x)), expected * weight + bias, rtol=1e-8, atol=1e-8)
        mean = 0.7 * mean + 0.3 * v.mean(1)
        cov = 0.7 * cov + 0.3 * covariances(v, size, ddof=1)
    np.testing.assert_allclose(module.running_mean, mean)
    np.testing.assert_allclose(module.running_cov, cov, atol=1e-12)
    expected = zca(v, mean, cov, size) * weight + bias
    np.testing.assert_allclose(rows(module.eval()(x)), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [FLOAT64, torch.float32])
def test_output_has_the_identity_for_a_covariance(dtype):
    module = bnn.DecorrelatedBatchNorm2d(6, eps=1e-12, dtype=dtype)
    y = module(mixed((20, 6, 5, 5)).to(dtype))
    tolerance = 1e-9 if dtype == FLOAT64 else 1e-4
    np.testing.assert_allclose(np.cov(rows(y), ddof=0), np.eye(6), atol=tolerance)
    np.testing.assert_allclose(rows(y).mean(1), 0, atol=tolerance)


@pytest.mark.parametrize("axes", SHAPES)
def test_groups_of_one_channel_are_batch_norm(axes):
    module = getattr(bnn, f"DecorrelatedBatchNorm{axes}")(6, dtype=FLOAT64, group_size=1)
    peer = getattr(nn, f"BatchNorm{axes}")(6, dtype=FLOAT64)
    for training in (True, True, False):
        x, dy = mixed(SHAPES[axes]), torch.randn(SHAPES[axes], dtype=FLOAT64)
        results = []
        for m in (module.train(training), peer.train(training)):
            leaf = x.clone().requires_grad_()
            y = m(leaf)
            results.append([y, *torch.autograd.grad(y, [leaf, *m.parameters()], dy)])
        torch.testing.assert_close(*results)
    torch.testing.assert_close(module.running_mean, peer.running_mean)
    torch.testing.assert_close(module.running_cov.flatten(), peer.running_var)


def test_uncorrelated_channels_give_batch_norm():
    v = np.linalg.qr(np.random.default_rng(SEED).normal(size=(8, 3)) - 0)[0]
    v = np.linalg.qr(np.column_stack([np.ones(8), v]))[0][:, 1:] * [1.0, 5.0, 0.2]
    y = bnn.DecorrelatedBatchNorm1d(3, eps=EPS, dtype=FLOAT64)(torch.tensor(v))
    np.testing.assert_allclose(y.detach(), bn.batch_norm_forward(v, eps=EPS)[0], atol=1e-12)


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [2.0, 2.0, 5.0], [1e-3, 1.0, 1e3]])
def test_root_and_its_derivatives_where_eigenvalues_are_equal(values):
    q = torch.linalg.qr(torch.randn(3, 3, dtype=FLOAT64))[0]
    a = (q * torch.tensor(values, dtype=FLOAT64)) @ q.T

    def root(a):
        return InverseRoot.apply((a + a.mT) / 2)

    np.testing.assert_allclose(root(a) @ a @ root(a), np.eye(3), atol=1e-9)
    if max(values) < 10:
        leaf = a.clone().requires_grad_()
        assert torch.autograd.gradcheck(root, leaf)
        assert torch.autograd.gradgradcheck(root, leaf)


def test_gradient_of_white_input_is_finite():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=FLOAT64, requires_grad=True)
    module = bnn.DecorrelatedBatchNorm1d(2, dtype=FLOAT64)
    assert torch.autograd.gradcheck(module, x)


def test_momentum_none_averages_over_all_mini_batches():
    module = bnn.DecorrelatedBatchNorm1d(6, momentum=None, dtype=FLOAT64)
    xs = [mixed((9, 6)) for _ in range(3)]
    for x in xs:
        module(x)
    expected = np.mean([covariances(rows(x), 6, ddof=1) for x in xs], axis=0)
    np.testing.assert_allclose(module.running_cov, expected)


def test_non_finite_input_is_refused():
    module = bnn.DecorrelatedBatchNorm1d(2)
    with pytest.raises(ValueError, match="input: expected finite values"):
        module(torch.tensor([[1.0, float("nan")], [2.0, 3.0]]))
    assert module.num_batches_tracked == 0


def test_reset_running_stats():
    module = bnn.DecorrelatedBatchNorm2d(4, group_size=2)
    module(torch.randn(8, 4, 2, 2))
    module.reset_running_stats()
    assert torch.equal(module.running_cov, torch.eye(2).expand(2, 2, 2))
    assert module.num_batches_tracked == 0


@pytest.mark.parametrize("axes", SHAPES)
def test_autocast_does_not_round_covariances(axes):
    modules = [getattr(bnn, f"DecorrelatedBatchNorm{axes}")(6, group_size=3) for _ in range(2)]
    for training in (True, False):
        x = mixed(SHAPES[axes]).float().requires_grad_()
        expected = modules[0].train(training)(x)
        with torch.autocast("cpu", torch.bfloat16):
            got = modules[1].train(training)(x)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
        dy = torch.randn_like(x)
        gradients = [torch.autograd.grad(y, x, dy)[0] for y in (got, expected)]
        torch.testing.assert_close(*gradients, rtol=0, atol=0)
    torch.testing.assert_close(*(dict(m.state_dict()) for m in modules), rtol=0, atol=0)


def test_reset_does_not_depend_on_the_default_device():
    module = bnn.DecorrelatedBatchNorm1d(4)
    module(torch.randn(8, 4))
    with torch.device("meta"):
        module.reset_running_stats()
    torch.testing.assert_close(module.running_cov[0], torch.eye(4), rtol=0, atol=0)
