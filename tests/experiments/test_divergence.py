import dataclasses

import numpy as np
import pytest

from bnlib.experiments import divergence as experiment

SMALL = experiment.Config(rates=(0.03, 3.2), depth=4, width=16, steps=20, seeds=6)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def fabricated(loss, activation, signal):
    config = experiment.Config(norms=("none",), rates=(1.0,), depth=2, seeds=len(loss))
    arrays = (np.asarray(a, float)[None, None] for a in (loss, activation, signal))
    return experiment.Result(config, *arrays)


def test_start_is_the_unit(small):
    np.testing.assert_array_equal(small.activation[..., 0, :], 0)
    np.testing.assert_array_equal(small.signal[..., 0], 0)


def test_fate_of_each_run():
    fine, huge = 2.3, 1e3
    loss = [[fine, fine, fine], [fine, huge, fine], [fine, huge, np.nan], [fine, fine, fine]]
    signal = [[0, 0, 0], [0, 1, -9], [0, 1, np.nan], [0, -1, -9]]
    result = fabricated(loss, np.zeros((4, 3, 2)), signal)
    assert result.exploded[0, 0].tolist() == [False, True, True, False]
    assert result.dead[0, 0].tolist() == [False, False, False, True]


def test_profile_is_that_of_the_explosion_or_of_the_step_before():
    nan = np.nan
    loss = [[2, 1e3, 2], [2, 2, nan], [2, 2, 2], [nan, nan, nan]]
    activation = np.array([[[0, 0], [1, 2], [9, 9]], [[0, 0], [3, 4], [nan, nan]]])
    activation = np.concatenate([activation, np.zeros((2, 3, 2))])
    result = fabricated(loss, activation, np.zeros((4, 3)))
    np.testing.assert_array_equal(result.at_explosion(), [[1, 2], [3, 4]])


def test_small_rate_is_survived_and_large_one_only_with_batch_norm(small):
    failed = (small.exploded | small.dead).mean(axis=-1)
    np.testing.assert_array_equal(failed, [[0, 1], [0, 0]])


def test_activations_grow_with_depth_where_training_explodes(small):
    verdict = experiment.judge(small)
    assert verdict.effect > 0.5
    assert verdict.seeds == len(small.at_explosion())


def test_judge_needs_explosions():
    calm = experiment.run(dataclasses.replace(SMALL, rates=(0.01,), steps=3))
    with pytest.raises(ValueError, match="expected two runs that explode, got 0"):
        experiment.judge(calm)
