import numpy as np
import pytest
from random_inputs import SEED

from bnlib.layers import he, orthogonal, scaled, xavier


@pytest.mark.parametrize(
    ("init", "std"), [(he, np.sqrt(2 / 30)), (xavier, np.sqrt(2 / 100)), (scaled(0.3), 0.3)]
)
def test_moments_are_those_of_a_normal_distribution(init, std):
    n = 100_000
    w = init(np.random.default_rng(SEED), (100, n // 100), 30, 70)
    assert w.shape == (100, n // 100)
    assert abs(w.mean()) < 5 * std / np.sqrt(n)
    assert abs(w.std() / std - 1) < 5 / np.sqrt(2 * n)
    assert abs(np.mean((w / std) ** 4) - 3) < 5 * np.sqrt(96 / n)


@pytest.mark.parametrize("std", [-1.0, np.inf, np.nan])
def test_bad_scale_is_refused(std):
    with pytest.raises(ValueError, match="std: expected a finite number >= 0"):
        scaled(std)


@pytest.mark.parametrize("shape", [(6, 6), (7, 4), (3, 8)])
def test_orthogonal_matrices_keep_lengths(shape):
    w = orthogonal(np.random.default_rng(SEED), shape, *shape)
    assert w.shape == shape
    gram = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-12)


def test_orthogonal_matrices_are_all_equally_likely():
    """The trace of such a matrix has mean 0 and mean square 1; without random signs it has not."""
    rng = np.random.default_rng(SEED)
    traces = np.array([np.trace(orthogonal(rng, (8, 8), 8, 8)) for _ in range(2000)])
    assert abs(traces.mean()) < 5 / np.sqrt(2000)
    assert abs(np.square(traces).mean() - 1) < 5 * np.sqrt(2 / 2000)


def test_orthogonal_weights_have_two_axes():
    with pytest.raises(ValueError, match="shape: expected that of a matrix"):
        orthogonal(np.random.default_rng(SEED), (2, 3, 4), 3, 2)
