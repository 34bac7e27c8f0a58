import dataclasses

import numpy as np
import pytest

from bnlib.experiments import effective_rates as experiment

SMALL = experiment.Config(rates=(0.1, 10.0, 1000.0), depth=2, width=8, steps=30, seeds=3)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_same_config_gives_the_same_numbers(small):
    np.testing.assert_array_equal(experiment.run(SMALL).squared_norm, small.squared_norm)


def test_shapes(small):
    assert small.loss.shape == (3, 3, 31)
    assert small.effective_rate.shape == (3, 3, 31, 2)
    assert small.bound.shape == small.growth.shape == (3, 3, 30, 2)


def test_squared_length_grows_by_the_square_of_the_step(small):
    """The theory: orthogonal gradients."""
    scale = small.squared_norm[:, :, 1:]
    np.testing.assert_allclose(small.growth / scale, small.predicted_growth / scale, atol=1e-12)
    assert (small.growth > 0).all()


def test_effective_rate_obeys_the_bound_that_knows_no_rate(small):
    assert (small.effective_rate[:, :, 1:] <= small.bound * (1 + 1e-12)).all()
    assert (small.effective_rate[2, :, 1:] > small.bound[2] / 1e6).all()


def test_start_is_the_same_at_all_rates(small):
    np.testing.assert_array_equal(small.squared_norm[0, :, 0], small.squared_norm[2, :, 0])


def test_without_norm_the_gradient_is_not_orthogonal():
    plain = experiment.run(dataclasses.replace(SMALL, norm="none", rates=(0.1,)))
    error = np.abs(plain.growth - plain.predicted_growth)
    assert np.median(error / np.abs(plain.growth)) > 0.1


def test_eps_spoils_the_growth_only_a_little():
    damped = experiment.run(dataclasses.replace(SMALL, eps=1e-3, rates=(0.1,)))
    error = np.abs(damped.growth - damped.predicted_growth) / damped.squared_norm[:, :, 1:]
    assert 1e-12 < error.max() < 1e-2
