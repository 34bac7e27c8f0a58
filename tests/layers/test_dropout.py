import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_inputs import SEED

from bnlib.layers import Dropout


@given(p=st.floats(0, 0.99), seed=st.integers(0, 2**32 - 1))
def test_train_mode_drops_or_scales_and_backward_uses_the_same_mask(p, seed):
    layer = Dropout(p, rng=np.random.default_rng(seed))
    y = layer(np.ones((5, 7)))
    assert np.all((y == 0) | np.isclose(y, 1 / (1 - p), rtol=1e-15))
    np.testing.assert_array_equal(layer.backward(np.full((5, 7), 3.0)), 3 * y)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fraction_of_zeros_is_p(p, dtype):
    n = 100_000
    y = Dropout(p, rng=np.random.default_rng(SEED))(np.ones((100, n // 100), dtype))
    assert abs(np.mean(y == 0) - p) < 5 * np.sqrt(p * (1 - p) / n)
    assert y.dtype == dtype


def test_masks_differ_from_call_to_call():
    layer, x = Dropout(0.5, rng=np.random.default_rng(0)), np.ones((4, 8))
    assert not np.array_equal(layer(x), layer(x))


def test_eval_mode_is_the_identity_and_draws_nothing():
    rng = np.random.default_rng(0)
    layer, x = Dropout(0.5, rng=rng).eval(), np.arange(6.0).reshape(2, 3)
    before = rng.bit_generator.state
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_p_out_of_range_is_refused(p):
    with pytest.raises(ValueError, match=r"p: expected a number in \[0, 1\)"):
        Dropout(p, rng=np.random.default_rng(0))


def test_repr():
    assert repr(Dropout(0.5, rng=[np.random.default_rng(0)])) == "Dropout(p=0.5, seeds=1)"
