import copy

import numpy as np
import pytest
from random_inputs import SEED

from bnlib import layers as L  # noqa: N812
from bnlib.functional import numerical_gradient, relative_error
from bnlib.layers.base import Layer


def parts(layer):
    """Arrays by name, and the running statistics of batch norm."""
    arrays = dict(layer.parameters)
    if hasattr(layer, "running"):
        arrays |= {"mean": layer.running.mean, "var": layer.running.var}
    return arrays


def test_gradients_equal_central_differences(make, rng):
    layer, shape = make()
    x = rng.standard_normal(shape)
    upstream = rng.standard_normal(copy.deepcopy(layer)(x).shape)

    def with_parameter(name):
        def f(value):
            other = copy.deepcopy(layer)  # the same dropout mask each time
            other.parameters[name][...] = value
            return other(x)

        return f

    before = copy.deepcopy(layer)
    layer(x)
    dx = layer.backward(upstream)
    expected = numerical_gradient(lambda v: copy.deepcopy(before)(v), x, upstream)
    assert relative_error(dx, expected) < 1e-6
    layer_before, layer = layer, before
    for name, p in layer.parameters.items():
        expected = numerical_gradient(with_parameter(name), p.copy(), upstream)
        assert relative_error(layer_before.gradients[name], expected) < 1e-6, name


@pytest.mark.parametrize("training", [True, False])
def test_seed_axis_equals_separate_layers(make, rng, training):
    k = 3
    ensemble, shape = make(seeds=k)
    x = rng.standard_normal(shape)
    alone = []
    for i in range(k):
        layer, _ = make()
        if isinstance(layer, L.Dropout):
            layer = L.Dropout(layer.p, rng=np.random.default_rng([7 + SEED, i]))
        for name, p in parts(layer).items():
            p[...] = parts(ensemble)[name][i]
        alone.append(layer)
    ensemble.train() if training else ensemble.eval()
    y = ensemble(x)
    dy = rng.standard_normal(y.shape)
    dx = ensemble.backward(dy)
    for i, layer in enumerate(alone):
        layer.train() if training else layer.eval()
        np.testing.assert_allclose(y[i], layer(x[i]), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(dx[i], layer.backward(dy[i]), rtol=1e-12, atol=1e-13)
        for name, g in layer.gradients.items():
            np.testing.assert_allclose(ensemble.gradients[name][i], g, rtol=1e-11, atol=1e-12)
        for name, array in parts(layer).items():
            np.testing.assert_allclose(parts(ensemble)[name][i], array, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("seeds", [None, 2])
def test_float32_stays_float32(make, rng, seeds, training):
    layer, shape = make(np.float32, seeds)
    layer.train() if training else layer.eval()
    y = layer(rng.standard_normal(shape).astype(np.float32))
    dx = layer.backward(rng.standard_normal(y.shape).astype(np.float32))
    arrays = {"y": y, "dx": dx, **parts(layer), **layer.gradients}
    assert {name: a.dtype for name, a in arrays.items()} == dict.fromkeys(arrays, np.float32)


@pytest.mark.parametrize("training", [True, False])
def test_inputs_are_not_modified(make, rng, training):
    layer, shape = make()
    layer.train() if training else layer.eval()
    x = rng.standard_normal(shape)
    x.flags.writeable = False
    y = layer(x)
    dy = rng.standard_normal(y.shape)
    dy.flags.writeable = False
    kept = y.copy()
    layer.backward(dy)
    np.testing.assert_array_equal(y, kept)


def test_non_contiguous_input_gives_the_same(make, rng):
    layer, shape = make()
    other = copy.deepcopy(layer)
    wide = rng.standard_normal((*shape[:-1], 2 * shape[-1]))
    x = wide[..., ::2]
    y = layer(x)
    np.testing.assert_allclose(y, other(x.copy()), rtol=1e-12, atol=1e-13)
    dy = np.asfortranarray(rng.standard_normal(y.shape))
    np.testing.assert_allclose(
        layer.backward(dy), other.backward(np.ascontiguousarray(dy)), rtol=1e-11, atol=1e-12
    )


def test_backward_twice_gives_the_same(make, rng):
    layer, shape = make()
    dy = rng.standard_normal(layer(rng.standard_normal(shape)).shape)
    np.testing.assert_array_equal(layer.backward(dy), layer.backward(dy))


def test_gradients_of_an_earlier_step_are_kept(make, rng):
    layer, shape = make()
    y = layer(rng.standard_normal(shape))
    layer.backward(rng.standard_normal(y.shape))
    kept = dict(layer.gradients)
    copies = {name: g.copy() for name, g in kept.items()}
    layer.backward(rng.standard_normal(y.shape))
    for name, g in kept.items():
        np.testing.assert_array_equal(g, copies[name])


def test_gradients_have_the_keys_and_shapes_of_the_parameters_before_any_backward(make):
    layer, _ = make(seeds=2)
    shapes = {name: p.shape for name, p in layer.parameters.items()}
    assert {name: g.shape for name, g in layer.gradients.items()} == shapes


def test_backward_before_forward_is_refused(make):
    layer, shape = make()
    with pytest.raises(RuntimeError, match="forward call first"):
        layer.backward(np.ones(shape))


def test_wrong_upstream_is_refused_and_gradients_stay(make, rng):
    layer, shape = make()
    y = layer(rng.standard_normal(shape))
    layer.backward(rng.standard_normal(y.shape))
    before = {name: g.copy() for name, g in layer.gradients.items()}
    with pytest.raises(ValueError, match="dy: expected the shape"):
        layer.backward(np.ones((*y.shape, 1)))
    with pytest.raises(TypeError, match="dy: expected an array of dtype float64"):
        layer.backward(np.ones(y.shape, np.float32))
    for name, g in layer.gradients.items():
        np.testing.assert_array_equal(g, before[name])


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones((2, 4), int), TypeError, "x: expected a floating-point array, got dtype int64"),
        (np.ones((2, 4), complex), TypeError, "got dtype complex128"),
        ([[1.0]], TypeError, "got list"),
    ],
)
def test_input_that_is_not_floating_point_is_refused(make, x, error, message):
    layer, _ = make()
    with pytest.raises(error, match=message):
        layer(x)


def test_empty_mini_batch_is_refused(make):
    layer, shape = make()
    with pytest.raises(ValueError, match="expected at least one example"):
        layer(np.ones((0, *shape[1:])))


def test_refused_input_leaves_the_layer_as_it_was(make, rng):
    layer, shape = make(seeds=2)
    y = layer(rng.standard_normal(shape))
    dy = rng.standard_normal(y.shape)
    dx, before = layer.backward(dy), {name: a.copy() for name, a in parts(layer).items()}
    wrong = np.ones((0,)) if layer.seeds is None else np.ones((3, *shape[1:]))
    with pytest.raises(ValueError, match="x: expected"):
        layer(wrong)
    np.testing.assert_array_equal(layer.backward(dy), dx)
    for name, array in parts(layer).items():
        np.testing.assert_array_equal(array, before[name])


def test_train_and_eval_return_the_layer(make):
    layer, _ = make()
    assert layer.training
    assert layer.eval() is layer
    assert not layer.training
    assert layer.train() is layer
    assert layer.training


def test_repr_shows_the_seeds(make):
    layer, _ = make(seeds=2)
    assert layer.seeds is None or "seeds=2" in repr(layer)


@pytest.mark.parametrize(
    ("seeds", "error", "message"),
    [
        (0, ValueError, "seeds: expected at least 1, got 0"),
        (-1, ValueError, "seeds: expected at least 1, got -1"),
        (1.5, TypeError, "seeds: expected an integer, got 1.5"),
        (True, TypeError, "seeds: expected an integer, got True"),
    ],
)
def test_bad_number_of_seeds_is_refused(seeds, error, message):
    with pytest.raises(error, match=message):
        Layer(seeds=seeds)


def test_shared_input_can_be_broadcast_over_the_seeds(make, rng):
    layer, shape = make(seeds=2)
    other = copy.deepcopy(layer)
    x = np.broadcast_to(rng.standard_normal(shape[1:]), shape)
    np.testing.assert_allclose(layer(x), other(x.copy()), rtol=1e-12, atol=1e-13)


def test_without_the_input_gradient_the_parameters_have_the_same_gradients(make, rng):
    layer, shape = make()
    dy = rng.standard_normal(layer(rng.standard_normal(shape)).shape)
    layer.backward(dy)
    expected = {name: g.copy() for name, g in layer.gradients.items()}
    for g in layer.gradients.values():
        g[...] = np.nan
    assert layer.backward(dy, input_gradient=False) is None
    for name, g in layer.gradients.items():
        np.testing.assert_array_equal(g, expected[name])
