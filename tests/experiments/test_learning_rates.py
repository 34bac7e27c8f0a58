import dataclasses

import numpy as np
import pytest

from bnlib.experiments import learning_rates as experiment

SMALL = experiment.Config(
    scales=(0.5, 1.0), rates=(0.1, 0.32, 1.0), depth=4, width=16, steps=120, seeds=4
)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def fabricated(steps, final, rates=(0.1, 1.0, 10.0)):
    """One norm, one scale; lists of (r, k)."""
    steps, final = (np.asarray(a)[None, None] for a in (steps, final))
    config = experiment.Config(norms=("none",), scales=(1.0,), rates=rates, steps=200)
    return experiment.Result(config, steps, np.asarray(final, float), np.zeros(steps.shape))


def join(*results):
    """Put the arms of results of one norm each side by side."""
    config = dataclasses.replace(results[0].config, norms=("none",) * len(results))
    arrays = (
        np.concatenate([getattr(r, name) for r in results])
        for name in ("steps", "final", "accuracy")
    )
    return experiment.Result(config, *arrays)


def test_steps_count_from_the_mean_over_a_window():
    loss = np.concatenate([np.full(30, 2.0), np.full(31, 1.0)])[None]
    assert experiment.steps_to(loss, 1.5) == 34  # five of ten mini-batches are at 1.0
    assert experiment.steps_to(loss, 0.5) == 60  # never
    dip = np.full((1, 61), 2.0)
    dip[0, 20] = 0.0  # one lucky mini-batch is not convergence
    assert experiment.steps_to(dip, 1.5) == 60


def test_largest_rate_is_the_largest_that_trains():
    ok, bad = 0.1, 2.3
    result = fabricated(np.full((3, 3), 50), [[ok, bad, bad], [ok, bad, bad], [bad, ok, bad]])
    np.testing.assert_allclose(result.largest_rate.low[0, 0], [0, 1, -np.inf])
    np.testing.assert_allclose(result.largest_rate.high[0, 0], [1, np.inf, -1])


def test_rates_that_do_not_increase_are_refused():
    with pytest.raises(ValueError, match=r"rates: expected increasing numbers, got \(1.0, 0.1\)"):
        experiment.Config(rates=(1.0, 0.1))


def test_steps_that_were_not_enough_are_a_bound():
    """One network reaches the target after 50 of 200 steps, the other does not."""
    fast, slow = (np.full((1, 1, 2), steps) for steps in (50, 200))
    config = experiment.Config(scales=(1.0,), rates=(0.1,), steps=200, seeds=2)
    arms = np.stack([slow, fast + np.array([0, 1])])
    result = experiment.Result(config, arms, np.ones(arms.shape), np.ones(arms.shape))
    (verdict,) = experiment.judge_speed(result).values()
    assert (verdict.bound, verdict.answer) == ("at least", "supported")
    (swapped,) = experiment.judge_speed(dataclasses.replace(result, steps=arms[::-1])).values()
    assert (swapped.bound, swapped.answer) == ("at most", "refuted")
    (neither,) = experiment.judge_speed(
        dataclasses.replace(result, steps=np.full(arms.shape, 200))
    ).values()
    assert neither.answer == "cannot tell"


def test_best_rate_of_a_seed_is_chosen_on_the_others():
    """Two of three seeds are faster at the second rate; the third alone would prefer the first."""
    result = fabricated([[100, 100, 20], [50, 50, 60], [200, 200, 200]], np.ones((3, 3)))
    np.testing.assert_array_equal(result.best_rate[0, 0], [0, 0, 1])
    np.testing.assert_array_equal(result.at_best(result.steps)[0, 0], [100, 100, 60])


def test_ties_go_to_the_smaller_loss():
    result = fabricated(np.full((3, 2), 200), [[2.0, 2.0], [1.5, 1.5], [2.2, 2.2]])
    np.testing.assert_array_equal(result.best_rate, 1)


def test_diverged_runs_count_as_guessing():
    result = experiment.run(dataclasses.replace(SMALL, norms=("none",), rates=(1e6,), steps=30))
    np.testing.assert_allclose(result.final, experiment.GUESSING, rtol=1e-6)
    np.testing.assert_array_equal(result.steps, 30)
    assert (result.accuracy < 0.3).all()


def test_batch_norm_trains_at_higher_rates_and_faster(small):
    for key, verdict in experiment.judge(small).items():
        assert verdict.effect > 0, key
    for verdict in experiment.judge_speed(small).values():
        assert verdict.answer == "supported"


def test_judges_find_nothing_between_seeds_of_one_network():
    """Batch norm on both sides, from other weights and in another order."""
    config = dataclasses.replace(SMALL, norms=("batch",), seeds=12)
    one, other = (
        experiment.run(dataclasses.replace(config, first_seed=first)) for first in (0, 100)
    )
    assert (one.final != other.final).all()
    for key, verdict in experiment.judge(join(one, other)).items():
        assert verdict.answer not in ("supported", "refuted")
        if key.startswith("speed"):
            assert abs(verdict.effect) < verdict.margin


def test_one_scale_is_not_judged_for_initialization():
    config = dataclasses.replace(SMALL, scales=(1.0,), steps=10)
    assert {key.split(":")[0] for key in experiment.judge(experiment.run(config))} == {
        "rates",
        "speed",
    }
