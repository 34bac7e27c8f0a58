"""Each half of batch norm against torch autograd, and both against the whole."""

import numpy as np
import pytest
import torch

from bnlib import layers
from bnlib.experiments.engine.statistics_modes import recalibrate
from bnlib.layers import BatchNorm, MeanOnlyBatchNorm, ScaleOnlyBatchNorm

EPS = 1e-2
SHAPES = [(3,), (3, 5), (3, 4, 2)]  # features, sequences, images


def over_the_batch(x):
    return [axis for axis in range(x.ndim) if axis != 1]


def mean_only(x):
    return x - x.mean(over_the_batch(x), keepdim=True)


def scale_only(x):
    return x / torch.sqrt((x**2).mean(over_the_batch(x), keepdim=True) + EPS)


def affine(x_hat, gamma, beta):
    if gamma is None:
        return x_hat
    wide = (1, 3, *(1,) * (x_hat.ndim - 2))
    return gamma.reshape(wide) * x_hat + beta.reshape(wide)


HALVES = {
    "mean only": (MeanOnlyBatchNorm, mean_only, {}),
    "scale only": (ScaleOnlyBatchNorm, scale_only, {"eps": EPS}),
}


def make(name, rng, **options):
    cls, function, given = HALVES[name]
    layer = cls(3, **given, **options)
    for parameter in layer.parameters.values():
        parameter[...] = rng.uniform(0.5, 2, parameter.shape)
    return layer, function


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("shape", SHAPES, ids=["features", "sequence", "images"])
@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("parameters", [True, False])
def test_train_mode_equals_autograd(agrees, rng, name, shape, m, parameters):
    layer, function = make(name, rng, affine=parameters)

    def reference(x, gamma=None, beta=None):
        return affine(function(x), gamma, beta)

    agrees(layer, reference, rng.normal(2, 3, (m, *shape)))


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("shape", SHAPES, ids=["features", "sequence", "images"])
@pytest.mark.parametrize("m", [1, 8])
def test_eval_mode_takes_the_running_statistics_for_constants(agrees, rng, name, shape, m):
    layer, _ = make(name, rng)
    layer(rng.normal(2, 3, (6, *shape)))
    layer.eval()
    wide = (1, 3, *(1,) * (len(shape) - 1))
    mean, var = (torch.tensor(a.reshape(wide)) for a in (layer.running.mean, layer.running.var))

    def reference(x, gamma, beta):
        x_hat = x - mean if name == "mean only" else x / torch.sqrt(var + EPS)
        return affine(x_hat, gamma, beta)

    before = layer.running.mean.copy(), layer.running.var.copy()
    agrees(layer, reference, rng.normal(2, 3, (m, *shape)))
    np.testing.assert_array_equal((layer.running.mean, layer.running.var), before)


def test_running_statistics_are_the_mean_and_the_mean_square(rng):
    x = rng.normal(2, 3, (6, 3))
    centred, scaled = (make(name, rng)[0] for name in HALVES)
    centred(x), scaled(x)
    np.testing.assert_allclose(centred.running.mean, 0.1 * x.mean(0))
    np.testing.assert_allclose(scaled.running.var, 0.9 + 0.1 * (x**2).mean(0))
    np.testing.assert_array_equal(scaled.running.mean, 0)
    cumulative, _ = make("scale only", rng, momentum=None)
    for part in (x, 2 * x):
        cumulative(part)
    np.testing.assert_allclose(cumulative.running.var, 2.5 * (x**2).mean(0))


def test_the_scale_of_what_was_centred_is_batch_norm(rng):
    whole, x = BatchNorm(3, eps=EPS, affine=False), rng.normal(2, 3, (8, 3))
    centred, scaled = (make(name, rng, affine=False)[0] for name in HALVES)
    np.testing.assert_allclose(scaled(centred(x)), whole(x))
    dy = rng.standard_normal(x.shape)
    np.testing.assert_allclose(centred.backward(scaled.backward(dy)), whole.backward(dy))


@pytest.mark.parametrize("name", HALVES)
def test_each_half_removes_its_own_component_and_leaves_the_other(rng, name):
    cls = HALVES[name][0]
    options = {"eps": 0.0} if cls is ScaleOnlyBatchNorm else {}
    layer, x = cls(3, affine=False, **options), rng.normal(2, 3, (8, 3))
    x_hat = layer(x)
    dx = layer.backward(rng.standard_normal(x.shape))
    mean, along = np.abs(dx.mean(0)), np.abs((dx * x_hat).mean(0))
    gone, kept = (mean, along) if name == "mean only" else (along, mean)
    assert gone.max() < 1e-14
    assert kept.max() > 1e-3


def test_invariances_are_those_of_the_halves(rng):
    x, scales, shifts = rng.normal(2, 3, (8, 3)), rng.uniform(0.5, 2, 3), rng.standard_normal(3)
    centred, scaled = MeanOnlyBatchNorm(3), ScaleOnlyBatchNorm(3, eps=0.0)
    np.testing.assert_allclose(centred(x + shifts), centred(x), atol=1e-12)
    np.testing.assert_allclose(centred(x * scales), centred(x) * scales, atol=1e-12)
    np.testing.assert_allclose(scaled(x * scales), scaled(x))
    assert np.abs(scaled(x + shifts) - scaled(x)).max() > 0.01


@pytest.mark.parametrize("name", HALVES)
def test_bad_batches_are_refused_and_leave_the_running_statistics(rng, name):
    layer, _ = make(name, rng)
    layer(rng.standard_normal((8, 3)))
    before = layer.running.mean.copy(), layer.running.var.copy()
    for bad in (np.ones((8, 4)), np.full((8, 3), np.nan)):
        with pytest.raises(ValueError, match=r"."):
            layer(bad)
    np.testing.assert_array_equal((layer.running.mean, layer.running.var), before)


def test_one_value_has_no_deviation_from_its_mean_but_a_scale():
    with pytest.raises(ValueError, match="more than one value per channel"):
        MeanOnlyBatchNorm(3)(np.ones((1, 3)))
    np.testing.assert_array_equal(ScaleOnlyBatchNorm(3, eps=0.0)(-2 * np.ones((1, 3))), -1)


def test_repr():
    assert repr(MeanOnlyBatchNorm(3, momentum=0.2)) == "MeanOnlyBatchNorm(3, momentum=0.2)"
    assert repr(ScaleOnlyBatchNorm(3, seeds=2)) == "ScaleOnlyBatchNorm(3, seeds=2)"


@pytest.mark.parametrize("norm", [MeanOnlyBatchNorm, ScaleOnlyBatchNorm])
def test_statistics_of_several_momenta_can_take_the_place_of_its_own(norm):
    """As the experiments do that recalibrate a network."""
    network = layers.Sequential(norm(3))
    recalibrated = recalibrate(network, [np.ones((4, 3)), 3 * np.ones((4, 3))])
    assert np.isfinite(recalibrated(np.zeros((2, 3)))).all()
