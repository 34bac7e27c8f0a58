import dataclasses

import numpy as np
import pytest

from bnlib.experiments import sigmoid_network as experiment

SMALL = experiment.Config(width=16, steps=40, every=10, early=20, seeds=3, rates=(0.5,))


def change(**settings):
    return dataclasses.replace(SMALL, **settings)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_shapes(small):
    assert small.steps.tolist() == [0, 10, 20, 30, 40]
    assert small.accuracy.shape == (2, 3, 5)
    assert small.percentiles.shape == (2, 3, 5, 3)
    assert small.drift.shape == (2, 3)
    assert (np.diff(small.percentiles, axis=-1) >= 0).all()


def test_other_seeds_of_the_control_are_not_an_effect(small):
    other = experiment.run(change(norms=("none",), first_seed=50))
    mixed = {
        field: np.stack([getattr(small, field)[0], getattr(other, field)[0]])
        for field in ("accuracy", "drift")
    }
    verdicts = experiment.judge(dataclasses.replace(small, **mixed))
    assert not {v.answer for v in verdicts.values()} & {"supported", "refuted"}


def test_batch_norm_is_ahead_early_with_small_weights():
    """A plain network of small sigmoids guesses for hundreds of steps."""
    verdicts = experiment.judge(experiment.run(change(width=32, steps=100, early=100, every=50)))
    assert (verdicts["moments"].answer, verdicts["early"].answer) == ("supported", "supported")
    assert verdicts["early"].effect > 0.5


def test_the_rate_is_chosen_for_each_norm_and_not_one_that_diverges():
    start = {"init": "xavier", "init_scale": 4.0}
    result = experiment.run(change(rates=(1e-6, 0.5, 1e9), tuning_seeds=2, **start))
    assert result.rates.tolist() == [0.5, 0.5]
    alone = experiment.run(change(**start))
    np.testing.assert_array_equal(result.accuracy, alone.accuracy)


def test_the_early_step_must_be_measured():
    with pytest.raises(ValueError, match="early: expected a measured step, got 15"):
        experiment.run(change(early=15))


def test_one_norm_cannot_be_judged(small):
    with pytest.raises(ValueError, match="two arms"):
        experiment.judge(dataclasses.replace(small, config=change(norms=("none",))))
