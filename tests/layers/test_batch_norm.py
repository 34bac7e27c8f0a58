import numpy as np
import pytest
import torch

from bnlib.functional import RunningStatistics
from bnlib.layers import BatchNorm

SHAPES = {
    "features": (4,),
    "sequence": (4, 5),
    "images": (4, 3, 2),
    "volumes": (4, 2, 3, 2),
}


def random_parameters(layer, rng):
    layer.parameters["gamma"][...] = rng.uniform(0.5, 2, 4)
    layer.parameters["beta"][...] = rng.standard_normal(4)


@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_train_mode_equals_torch(agrees, rng, m, shape, affine):
    layer = BatchNorm(4, affine=affine, eps=1e-3)
    if affine:
        random_parameters(layer, rng)

    def reference(x, gamma=None, beta=None):
        return torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)

    agrees(layer, reference, 2 + 3 * rng.standard_normal((m, *shape)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("m", [1, 2, 8])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_eval_mode_equals_torch(agrees, rng, m, shape, affine):
    layer = BatchNorm(4, affine=affine)
    if affine:
        random_parameters(layer, rng)
    layer(1 + 2 * rng.standard_normal((6, *shape)))
    layer.eval()
    mean, var = (torch.tensor(a.copy()) for a in (layer.running.mean, layer.running.var))

    def reference(x, gamma=None, beta=None):
        return torch.nn.functional.batch_norm(x, mean, var, gamma, beta, training=False)

    agrees(layer, reference, rng.standard_normal((m, *shape)))
    np.testing.assert_array_equal(layer.running.mean, mean)
    np.testing.assert_array_equal(layer.running.var, var)


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_running_statistics_equal_torch(rng, momentum, shape):
    layer = BatchNorm(4, momentum=momentum)
    module = {
        1: torch.nn.BatchNorm1d,
        2: torch.nn.BatchNorm1d,
        3: torch.nn.BatchNorm2d,
        4: torch.nn.BatchNorm3d,
    }[len(shape)](4, momentum=momentum, dtype=torch.float64)
    for _ in range(3):
        x = rng.standard_normal((5, *shape))
        layer(x)
        module(torch.tensor(x))
        np.testing.assert_allclose(layer.running.mean, module.running_mean, atol=1e-12)
        np.testing.assert_allclose(layer.running.var, module.running_var, rtol=1e-12)


def test_biased_running_variance():
    layer = BatchNorm(1, momentum=1.0, unbiased=False)
    layer(np.array([[1.0], [3.0]]))
    assert layer.running.var == 1.0
    layer = BatchNorm(1, momentum=1.0)
    layer(np.array([[1.0], [3.0]]))
    assert layer.running.var == 2.0


def test_backward_in_eval_mode_uses_the_statistics_of_its_forward(rng):
    layer, x = BatchNorm(4).eval(), rng.standard_normal((3, 4))
    dy = np.ones_like(x)
    layer(x)
    expected = layer.backward(dy)
    layer.running.update(np.full(4, 9.0), np.full(4, 9.0), 8)
    np.testing.assert_array_equal(layer.backward(dy), expected)


@pytest.mark.parametrize("seeds", [None, 2])
def test_bad_batches_are_refused_and_leave_the_running_statistics(rng, seeds):
    layer = BatchNorm(4, seeds=seeds)
    lead = () if seeds is None else (seeds,)
    layer(rng.standard_normal((*lead, 8, 4)))
    mean, var, count = layer.running.mean.copy(), layer.running.var.copy(), layer.running.count
    for bad in (np.ones((*lead, 8, 3)), np.ones((*lead, 1, 4)), np.full((*lead, 8, 4), np.nan)):
        with pytest.raises(ValueError, match=r"."), np.errstate(invalid="ignore"):
            layer(bad)
    with pytest.raises(TypeError, match="layer's dtype float64, got float32"):
        layer(np.ones((*lead, 8, 4), np.float32))
    np.testing.assert_array_equal(layer.running.mean, mean)
    np.testing.assert_array_equal(layer.running.var, var)
    assert layer.running.count == count


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_features": 0}, "num_features: expected at least 1"),
        ({"eps": -1e-5}, "eps: expected a finite number >= 0"),
        ({"momentum": 1.5}, r"momentum: expected a number in \[0, 1\] or None, got 1.5"),
        ({"seeds": 0}, "seeds: expected at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchNorm(**{"num_features": 4, **arguments})


@pytest.mark.parametrize(
    ("seeds", "shape", "message"),
    [
        (None, (3, 5), r"x: expected shape \(n, 4, ...\), got \(3, 5\)"),
        (None, (4,), r"x: expected shape \(n, 4, ...\), got \(4,\)"),
        (2, (2, 4), r"x: expected shape \(2, n, 4, ...\), got \(2, 4\)"),
        (2, (2, 4, 5), r"x: expected shape \(2, n, 4, ...\), got \(2, 4, 5\)"),
    ],
)
def test_bad_shapes_are_refused(seeds, shape, message):
    with pytest.raises(ValueError, match=message):
        BatchNorm(4, seeds=seeds)(np.ones(shape))


def test_statistics_have_the_seed_axis():
    layer = BatchNorm(4, seeds=3, dtype=np.float32)
    assert isinstance(layer.running, RunningStatistics)
    assert layer.running.mean.shape == layer.running.var.shape == (3, 4)
    assert layer.parameters["gamma"].shape == (3, 4)


def test_repr():
    assert repr(BatchNorm(4)) == "BatchNorm(4)"
    layer = BatchNorm(4, momentum=None, unbiased=False, affine=False, seeds=2)
    assert repr(layer) == "BatchNorm(4, momentum=None, unbiased=False, affine=False, seeds=2)"
