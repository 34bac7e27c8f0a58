import numpy as np
import pytest
from random_inputs import SEED

from bnlib.layers import he, scaled, xavier


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
