"""What a careless conversion costs: theory where there is one, and the same numbers each time."""

import numpy as np
import pytest

from bnlib.experiments import conversion

SMALL = conversion.Config(seeds=3, steps=120, depth=2, width=16)


@pytest.fixture(scope="module")
def result():
    return conversion.run(SMALL)


def test_same_config_gives_the_same_numbers(result):
    again = conversion.run(SMALL)
    for name in (conversion.RIGHT, *conversion.MISTAKES):
        np.testing.assert_array_equal(again.error[name], result.error[name])
        np.testing.assert_array_equal(again.accuracy[name], result.accuracy[name])


def test_right_conversion_changes_nothing(result):
    np.testing.assert_array_equal(result.error["right"], 0)
    assert result.accuracy["right"].mean() > 0.3


def test_every_mistake_changes_the_logits(result):
    for name in conversion.MISTAKES:
        assert result.error[name].shape == (3,)
        assert (result.error[name] > 1e-5).all(), name


def test_wrong_variance_scales_the_logits_as_predicted(result):
    predicted = (4 / 3) ** (SMALL.depth / 2) - 1
    np.testing.assert_allclose(result.error["variance"].mean(), predicted, rtol=0.15)


def test_mistakes_do_not_touch_the_trained_networks(result):
    # A mistake of one copy that reached the others would change the order-free "right" row too.
    assert result.error["eps"].max() < 0.05 < result.error["variance"].min()
