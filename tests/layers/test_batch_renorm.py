"""Batch renormalization in NumPy: the paper's algorithm, and the torch class."""

import numpy as np
import pytest
import torch

from bnlib import nn as bnn
from bnlib.experiments.engine.replicas import ReplicaStatistics
from bnlib.functional import numerical_gradient, relative_error
from bnlib.layers import BatchNorm, BatchRenorm


def renorm(rng, k=2, d=3, **options):
    layer = BatchRenorm(d, seeds=k, **options)
    layer.running.mean[...] = rng.standard_normal((k, d))
    layer.running.var[...] = rng.uniform(0.5, 20, (k, d))
    randomize(layer, rng)
    return layer


def randomize(layer, rng):
    for parameter in layer.parameters.values():
        parameter[...] = rng.uniform(0.5, 2, parameter.shape)


def check_parameter_gradients(layer, output, dy):
    """Compare with central differences; `output` is the layer as a function of its parameters."""
    for name, parameter in layer.parameters.items():
        gradient = layer.gradients[name]

        def changed(value, parameter=parameter):
            old = parameter.copy()
            parameter[...] = value
            y = output()
            parameter[...] = old
            return y

        numeric = numerical_gradient(changed, parameter.copy(), dy)
        assert relative_error(gradient, numeric) < 1e-7, name


def test_renorm_is_algorithm_1(rng):
    layer, x = renorm(rng, r_max=1.5, d_max=0.5), rng.normal(2, 3, (2, 8, 3))
    mean, std = (torch.tensor(a)[:, None] for a in (layer.running.mean, layer.running.var**0.5))
    gamma, beta = (torch.tensor(layer.parameters[n])[:, None] for n in ("gamma", "beta"))
    t = torch.tensor(x, requires_grad=True)
    batch_std = (t.var(1, keepdim=True, correction=0) + layer.eps).sqrt()
    std = (std**2 + layer.eps).sqrt()
    r = (batch_std / std).clamp(1 / 1.5, 1.5).detach()
    d = ((t.mean(1, keepdim=True) - mean) / std).clamp(-0.5, 0.5).detach()
    assert ((r != batch_std / std) | (d.abs() == 0.5)).any()  # some are clipped ...
    assert not ((r != batch_std / std) | (d.abs() == 0.5)).all()  # ... and some are not
    y = gamma * ((t - t.mean(1, keepdim=True)) / batch_std * r + d) + beta
    np.testing.assert_allclose(layer(x), y.detach())
    dy = rng.standard_normal(x.shape)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(layer.backward(dy), t.grad, atol=1e-12)


def test_renorm_gradients_agree_with_central_differences_at_fixed_r_and_d(rng):
    layer, x, dy = renorm(rng), *rng.normal(2, 3, (2, 2, 6, 3))
    running = layer.running.mean.copy(), layer.running.var.copy()
    mean, inv_std = running[0][:, None], 1 / np.sqrt(running[1] + layer.eps)[:, None]
    batch = x.mean(1, keepdims=True), np.sqrt(x.var(1, keepdims=True) + layer.eps)
    r = np.clip(batch[1] * inv_std, 1 / 3, 3)
    d = np.clip((batch[0] - mean) * inv_std, -5, 5)
    layer(x)
    dx = layer.backward(dy)

    def output(z=x):
        gamma, beta = (layer.parameters[n][:, None] for n in ("gamma", "beta"))
        std = np.sqrt(z.var(1, keepdims=True) + layer.eps)
        return gamma * ((z - z.mean(1, keepdims=True)) / std * r + d) + beta

    assert relative_error(dx, numerical_gradient(output, x, dy)) < 1e-6
    check_parameter_gradients(layer, output, dy)


def test_renorm_in_bounds_has_the_output_of_eval_mode(rng):
    layer, x = renorm(rng, r_max=1e6, d_max=1e6), rng.normal(2, 3, (2, 2, 3))
    expected = layer.eval()(x)
    np.testing.assert_allclose(layer.train()(x), expected)


def test_renorm_without_room_is_batch_norm(rng):
    x, dy = rng.normal(2, 3, (2, 2, 8, 3))
    layer, plain = BatchRenorm(3, r_max=1, d_max=0, seeds=2), BatchNorm(3, seeds=2)
    for _ in range(2):
        np.testing.assert_allclose(layer(x), plain(x))
        np.testing.assert_allclose(layer.backward(dy), plain.backward(dy))
    np.testing.assert_allclose(layer.gradients["gamma"], plain.gradients["gamma"])
    np.testing.assert_allclose(layer.running.mean, plain.running.mean)


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (1.2, 0.3), (3.0, 5.0), (1e9, 1e9)])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"warm_up": 2}, {"eps": 0.1}], ids=str)
def test_renorm_is_the_torch_class(rng, bounds, options):
    options = {"r_max": bounds[0], "d_max": bounds[1]} | options
    layer = BatchRenorm(3, seeds=1, **options)
    randomize(layer, rng)
    peer = bnn.BatchRenorm1d(3, dtype=torch.float64, **options)
    with torch.no_grad():
        peer.weight.copy_(torch.tensor(layer.parameters["gamma"][0]))
        peer.bias.copy_(torch.tensor(layer.parameters["beta"][0]))
    for step in range(7):
        x, dy = rng.normal(step, 1 + step, (2, 6, 3))
        leaf = torch.tensor(x, requires_grad=True)
        np.testing.assert_allclose(layer.bounds, [float(b) for b in peer.bounds])
        y = peer(leaf)
        np.testing.assert_allclose(layer(x[None])[0], y.detach())
        gradients = torch.autograd.grad(y, [leaf, *peer.parameters()], torch.tensor(dy))
        found = layer.backward(dy[None]), layer.gradients["gamma"], layer.gradients["beta"]
        for ours, theirs in zip(found, gradients, strict=True):
            np.testing.assert_allclose(ours[0], theirs, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(layer.running.mean[0], peer.running_mean)
        np.testing.assert_allclose(layer.running.var[0], peer.running_var)
        assert layer.running.count == peer.num_batches_tracked
    np.testing.assert_allclose(layer.eval()(x[None])[0], peer.eval()(leaf).detach())


def test_renorm_averages_standard_deviations_with_divisor_m(rng):
    layer, x = BatchRenorm(1, seeds=1, momentum=0.25, eps=0.5), rng.normal(2, 3, (1, 8, 1))
    layer(x)
    std = 0.75 * np.sqrt(1 + 0.5) + 0.25 * np.sqrt(x.var() + 0.5)
    np.testing.assert_allclose(layer.running.var, std**2 - 0.5)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="finite"):
        layer(np.array([[[np.inf], [1.0]]]))
    np.testing.assert_allclose(layer.running.var, std**2 - 0.5)


def test_a_replica_of_renorm_that_diverges_keeps_its_statistics(rng):
    layer = BatchRenorm(1, seeds=2)
    layer.running = ReplicaStatistics.initial((2, 1))
    x = rng.normal(2, 3, (2, 64, 1))
    x[1, 0] = np.inf
    with np.errstate(all="ignore"):
        layer(x)
    var = layer.running.var.ravel()
    np.testing.assert_allclose(var[1], 1)  # to rounding: it is a root and a square
    assert abs(var[0] - 1) > 0.1


def test_renorm_takes_the_running_statistics_before_their_update(rng):
    layer, x = BatchRenorm(1, seeds=1, r_max=9, d_max=9), rng.normal(2, 3, (1, 8, 1))
    np.testing.assert_allclose(layer(x), x / np.sqrt(1 + layer.eps))  # mean 0, variance 1


def test_bounds_of_renorm_grow_after_the_warm_up(rng):
    layer, x = BatchRenorm(1, seeds=1, warm_up=2), rng.normal(2, 3, (1, 8, 1))
    bounds = []
    for _ in range(6):
        bounds.append(layer.bounds)
        layer(x)
    assert bounds == [(1, 0), (1, 0), (1, 0), (2, 2.5), (3, 5), (3, 5)]
    assert layer.eval()(x) is not None
    assert layer.updates == 6


@pytest.mark.parametrize("bounds", [{"r_max": 0.5}, {"d_max": -1}, {"r_max": float("nan")}])
def test_renorm_refuses_impossible_bounds(bounds):
    with pytest.raises(ValueError, match="r_max, d_max: expected"):
        BatchRenorm(3, seeds=1, **bounds)


def test_renorm_of_images_without_seeds_is_the_torch_class(rng):
    layer = BatchRenorm(3, r_max=1.2, d_max=0.3, affine=False)
    peer = bnn.BatchRenorm2d(3, r_max=1.2, d_max=0.3, affine=False, dtype=torch.float64)
    for _ in range(3):
        x, dy = rng.normal(2, 3, (2, 4, 3, 5, 2))
        leaf = torch.tensor(x, requires_grad=True)
        y = peer(leaf)
        np.testing.assert_allclose(layer(x), y.detach())
        (dx,) = torch.autograd.grad(y, leaf, torch.tensor(dy))
        np.testing.assert_allclose(layer.backward(dy), dx, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(layer.running.var, peer.running_var)
