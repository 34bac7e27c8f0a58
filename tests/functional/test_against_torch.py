"""Every norm, forward and backward, against torch's autograd in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bnlib import functional as bn

EPS = 1e-3  # large, so that a misplaced eps shows


def rms_norm(x, gamma, beta):
    return F.rms_norm(x, gamma.shape, gamma, EPS)


def rms_norm_forward(x, gamma, beta):
    return bn.rms_norm_forward(x, gamma, eps=EPS)


def rms_norm_backward(dy, cache):
    return *bn.rms_norm_backward(dy, cache), None


NORMS = {
    "batch": (
        lambda x, g, b: F.batch_norm(x, None, None, g, b, True, eps=EPS),
        lambda x, g, b: bn.batch_norm_forward(x, g, b, eps=EPS),
        bn.batch_norm_backward,
    ),
    "layer": (
        lambda x, g, b: F.layer_norm(x, g.shape, g, b, EPS),
        lambda x, g, b: bn.layer_norm_forward(x, g, b, eps=EPS, axes=tuple(range(-g.ndim, 0))),
        bn.layer_norm_backward,
    ),
    "rms": (rms_norm, rms_norm_forward, rms_norm_backward),
    "group": (
        lambda x, g, b: F.group_norm(x, 2, g, b, EPS),
        lambda x, g, b: bn.group_norm_forward(x, 2, g, b, eps=EPS),
        bn.group_norm_backward,
    ),
    "instance": (
        lambda x, g, b: F.instance_norm(x, weight=g, bias=b, eps=EPS),
        lambda x, g, b: bn.instance_norm_forward(x, g, b, eps=EPS),
        bn.instance_norm_backward,
    ),
}

CASES = [
    ("batch", (2, 5), (5,)),
    ("batch", (3, 1), (1,)),
    ("batch", (600, 3), (3,)),
    ("batch", (3, 4, 7), (4,)),
    ("batch", (8, 4, 3, 5), (4,)),
    ("batch", (2, 3, 2, 3, 4), (3,)),
    ("batch", (2, 3, 70, 70), (3,)),
    ("layer", (8, 5), (5,)),
    ("layer", (3, 4, 7), (7,)),
    ("layer", (3, 4, 7), (4, 7)),
    ("layer", (3, 4, 7), (3, 4, 7)),
    ("rms", (8, 5), (5,)),
    ("rms", (2, 3, 5), (5,)),
    ("group", (3, 4), (4,)),
    ("group", (3, 6, 5), (6,)),
    ("group", (2, 4, 3, 5), (4,)),
    ("instance", (3, 4, 7), (4,)),
    ("instance", (2, 3, 4, 5), (3,)),
    ("instance", (2, 3, 2, 3, 2), (3,)),
]


@pytest.mark.parametrize(("name", "shape", "parameter_shape"), CASES)
def test_forward_and_backward_equal_torch(name, shape, parameter_shape, rng):
    reference, forward, backward = NORMS[name]
    x, dy = rng.normal(3, 2, shape), rng.normal(size=shape)
    gamma, beta = rng.uniform(0.5, 2, parameter_shape), rng.normal(size=parameter_shape)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    expected = reference(*leaves)
    wanted = torch.autograd.grad(expected, leaves, torch.tensor(dy), allow_unused=True)

    y, cache = forward(x, gamma, beta)
    gradients = backward(dy, cache)

    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-10)
    for gradient, want in zip(gradients, wanted, strict=True):
        if want is not None:
            np.testing.assert_allclose(gradient, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (2, 3, 4, 5)])
def test_inference_and_its_backward_equal_torch(shape, rng):
    c = shape[1]
    x, dy = rng.normal(3, 2, shape), rng.normal(size=shape)
    mean, var = rng.normal(size=c), rng.uniform(0.5, 2, c)
    gamma, beta = rng.uniform(0.5, 2, c), rng.normal(size=c)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    expected = F.batch_norm(
        leaves[0], torch.tensor(mean), torch.tensor(var), leaves[1], leaves[2], False, eps=EPS
    )
    wanted = torch.autograd.grad(expected, leaves, torch.tensor(dy))

    y = bn.batch_norm_inference(x, mean, var, gamma, beta, eps=EPS)
    gradients = bn.batch_norm_inference_backward(dy, x, mean, var, gamma, eps=EPS)

    np.testing.assert_allclose(y, expected.detach(), rtol=1e-12, atol=1e-12)
    for gradient, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(gradient, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (8, 3), (3, 4, 5), (2, 3, 4, 5)])
def test_double_backward_equals_torch(shape, rng):
    c = shape[1]
    x, dy, ddx = rng.normal(3, 2, shape), rng.normal(size=shape), rng.normal(size=shape)
    gamma, beta = rng.uniform(0.5, 2, c), rng.normal(size=c)
    ddgamma, ddbeta = rng.normal(size=c), rng.normal(size=c)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    upstream = torch.tensor(dy, requires_grad=True)
    y = F.batch_norm(leaves[0], None, None, leaves[1], leaves[2], True, eps=EPS)
    first = torch.autograd.grad(y, leaves, upstream, create_graph=True)
    seconds = [torch.tensor(a) for a in (ddx, ddgamma, ddbeta)]
    wanted = torch.autograd.grad(first, (upstream, leaves[0], leaves[1]), seconds)

    _, cache = bn.batch_norm_forward(x, gamma, beta, eps=EPS)
    gradients = bn.batch_norm_double_backward(ddx, ddgamma, ddbeta, dy, cache)

    for gradient, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(gradient, want, rtol=1e-9, atol=1e-9)


def test_double_backward_without_parameters_equals_torch(rng):
    x, dy, ddx = rng.normal(size=(3, 8, 4))
    leaf, upstream = torch.tensor(x, requires_grad=True), torch.tensor(dy, requires_grad=True)
    y = F.batch_norm(leaf, None, None, None, None, True, eps=EPS)
    (first,) = torch.autograd.grad(y, leaf, upstream, create_graph=True)
    wanted = torch.autograd.grad(first, (upstream, leaf), torch.tensor(ddx))

    _, cache = bn.batch_norm_forward(x, eps=EPS)
    ddy, dx, dgamma = bn.batch_norm_double_backward(ddx, None, None, dy, cache)

    np.testing.assert_allclose(ddy, wanted[0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(dx, wanted[1], rtol=1e-10, atol=1e-10)
    assert dgamma is None


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics_equal_torch(momentum, rng):
    module = torch.nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
    running = bn.RunningStatistics.initial((3,))
    for m in (2, 3, 8):
        x = rng.normal(5, 3, (m, 3))
        module(torch.tensor(x))
        _, cache = bn.batch_norm_forward(x)
        running.update(cache.mean, cache.var, cache.count, momentum)
    np.testing.assert_allclose(running.mean, module.running_mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(running.var, module.running_var, rtol=1e-12)
    assert running.count == module.num_batches_tracked


@pytest.mark.parametrize("center", [True, False])
def test_double_backward_of_standardize_equals_torch(center, rng):
    x, g, u = rng.normal(1, 2, (3, 5, 4, 6))
    leaf, upstream = torch.tensor(x, requires_grad=True), torch.tensor(g, requires_grad=True)
    d = leaf - leaf.mean((0, 2), keepdim=True) if center else leaf
    x_hat = d / (d.square().mean((0, 2), keepdim=True) + EPS).sqrt()
    (first,) = torch.autograd.grad(x_hat, leaf, upstream, create_graph=True)
    wanted = torch.autograd.grad(first, (upstream, leaf), torch.tensor(u))

    z = bn.standardize(x, (0, 2), eps=EPS, center=center)
    np.testing.assert_allclose(bn.standardize_backward(g, z), first.detach(), atol=1e-12)
    for gradient, want in zip(bn.standardize_double_backward(u, g, z), wanted, strict=True):
        np.testing.assert_allclose(gradient, want, rtol=1e-9, atol=1e-11)
