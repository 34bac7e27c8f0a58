import numpy as np
import pytest
from random_inputs import SEED

from bnlib.layers import Linear, scaled


@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torch(agrees, rng, m, bias):
    layer = Linear(5, 3, rng=rng, bias=bias)
    if bias:
        layer.parameters["bias"][...] = rng.standard_normal(3)

    def reference(x, weight, bias=None):
        y = x @ weight
        return y if bias is None else y + bias

    agrees(layer, reference, rng.standard_normal((m, 5)))


def test_by_hand():
    layer = Linear(2, 1, rng=np.random.default_rng(0))
    layer.parameters["weight"][...] = [[2.0], [3.0]]
    layer.parameters["bias"][...] = 10
    np.testing.assert_array_equal(layer(np.array([[1.0, 1.0], [0.0, 2.0]])), [[15.0], [16.0]])
    dx = layer.backward(np.array([[1.0], [2.0]]))
    np.testing.assert_array_equal(dx, [[2.0, 3.0], [4.0, 6.0]])
    np.testing.assert_array_equal(layer.gradients["weight"], [[1.0], [5.0]])
    np.testing.assert_array_equal(layer.gradients["bias"], [3.0])


def test_each_seed_draws_from_its_own_generator():
    ensemble = Linear(4, 3, rng=[np.random.default_rng(i + SEED) for i in range(3)])
    for i in range(3):
        alone = Linear(4, 3, rng=np.random.default_rng(i + SEED))
        np.testing.assert_array_equal(ensemble.parameters["weight"][i], alone.parameters["weight"])


def test_float32_parameters_are_the_rounded_float64_ones():
    single, double = (Linear(4, 3, rng=np.random.default_rng(SEED), dtype=t) for t in "fd")
    np.testing.assert_array_equal(
        single.parameters["weight"], double.parameters["weight"].astype(np.float32)
    )


def test_bias_starts_at_zero_and_init_is_used(rng):
    layer = Linear(2, 2, rng=rng, init=scaled(0.0))
    assert not layer.parameters["weight"].any()
    assert not layer.parameters["bias"].any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"d_in": 0}, ValueError, "d_in: expected at least 1, got 0"),
        ({"d_out": 2.0}, TypeError, "d_out: expected an integer, got 2.0"),
        ({"rng": 1}, TypeError, "rng: expected a numpy.random.Generator"),
        ({"rng": []}, TypeError, "rng: expected a numpy.random.Generator"),
        ({"dtype": int}, TypeError, "dtype: expected a floating-point type"),
    ],
)
def test_bad_arguments_are_refused(rng, arguments, error, message):
    with pytest.raises(error, match=message):
        Linear(**{"d_in": 2, "d_out": 2, "rng": rng, **arguments})


@pytest.mark.parametrize(
    ("seeds", "shape", "message"),
    [
        (None, (3, 5), r"x: expected shape \(m, 4\), got \(3, 5\)"),
        (None, (4,), r"x: expected shape \(m, 4\), got \(4,\)"),
        (2, (2, 3, 5), r"x: expected shape \(2, m, 4\), got \(2, 3, 5\)"),
        (2, (2, 4), r"x: expected shape \(2, m, 4\), got \(2, 4\)"),
        (2, (3, 8, 4), r"x: expected shape \(2, m, ...\), the seed axis first, got \(3, 8, 4\)"),
    ],
)
def test_bad_shapes_are_refused(seeds, shape, message):
    rngs = [np.random.default_rng(i) for i in range(seeds or 1)]
    layer = Linear(4, 3, rng=rngs if seeds else rngs[0])
    with pytest.raises(ValueError, match=message):
        layer(np.ones(shape))


def test_another_dtype_than_the_weight_is_refused(rng):
    with pytest.raises(TypeError, match="weight's dtype float32, got float64"):
        Linear(2, 2, rng=rng, dtype=np.float32)(np.ones((2, 2)))


def test_repr(rng):
    assert repr(Linear(4, 3, rng=rng, bias=False)) == "Linear(4, 3, bias=False)"
    assert repr(Linear(4, 3, rng=[rng, rng])) == "Linear(4, 3, seeds=2)"
