import numpy as np
import pytest

from bnlib.layers import RandomShift


def test_it_has_the_moments_of_its_distributions():
    layer = RandomShift([np.random.default_rng(0)], n_mu=0.6, n_sigma=1.5, r=0.2)
    x = np.array([-1.0, 1.0])[:, None] * np.ones((1, 2, 200_000))
    y = layer(x)[0]
    shift, scale = y.mean(axis=0), (y[1] - y[0]) / 2
    # means over two examples of b + s x; b and s have independent jitter in each value
    assert np.mean(shift**2) == pytest.approx(0.6**2 / 3 + (0.2**2 / 3 + 0.2**2) / 2, rel=0.02)
    assert scale.mean() == pytest.approx(1.25, rel=0.01)
    assert scale.var() == pytest.approx(0.5**2 / 12 + (0.2**2 / 3 + 0.2**2) / 2, rel=0.02)


def test_it_is_common_to_a_mini_batch_and_to_the_rates_of_a_seed():
    rngs = [np.random.default_rng(seed) for seed in range(2)]
    layer = RandomShift(rngs, 3, r=0.0)
    first, second = layer(np.zeros((6, 4, 5))), layer(np.zeros((6, 4, 5)))
    assert (first == first[:, :1]).all()
    np.testing.assert_array_equal(first[:2], first[2:4])
    assert (first[0] != first[1]).all()
    assert (first != second).all()


def test_it_multiplies_the_gradient_by_its_scale():
    layer = RandomShift([np.random.default_rng(0)])
    x = np.random.default_rng(1).standard_normal((1, 4, 5))
    scale = layer(x) - layer_again(0)(np.zeros_like(x))
    dy = np.random.default_rng(2).standard_normal(x.shape)
    np.testing.assert_allclose(layer.backward(dy) * x, scale * dy)


def layer_again(seed):
    return RandomShift([np.random.default_rng(seed)])


def test_eval_mode_is_the_mean():
    layer = RandomShift([np.random.default_rng(0)], n_sigma=1.5).eval()
    x = np.ones((1, 2, 3), np.float32)
    assert layer(x).dtype == np.float32
    np.testing.assert_array_equal(layer(x), 1.25 * x)
    np.testing.assert_array_equal(layer.backward(x), 1.25 * x)


def test_an_input_of_other_seeds_is_refused():
    layer = RandomShift([np.random.default_rng(0)], 2)
    with pytest.raises(ValueError, match=r"x: expected shape \(2, m, ...\)"):
        layer(np.zeros((3, 4, 5)))
