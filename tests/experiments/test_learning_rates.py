import dataclasses

import numpy as np
import pytest

from bnlib.experiments import learning_rates as experiment
from bnlib.experiments.engine.learning_curve import CHECKPOINTS
from bnlib.experiments.records.verdict import overall

SMALL = experiment.Config(
    scales=(0.5, 1.0), rates=(0.1, 0.32, 1.0), depth=4, width=16, budgets=(60, 120), seeds=4
)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def fabricated(accuracy, **fields):
    """Make a result of one budget from accuracies, (n, s, r, k, c)."""
    accuracy = np.asarray(accuracy, float)
    n, s, r, k, c = accuracy.shape
    config = dataclasses.replace(
        SMALL,
        norms=("none", "batch")[:n],
        scales=(1.0, 0.1, 10.0)[:s],
        rates=(0.1, 1.0, 10.0)[:r],
        budgets=(CHECKPOINTS[c - 1],),
        seeds=k,
    )
    return experiment.Result(dataclasses.replace(config, **fields), accuracy)


def test_networks_are_tested_at_the_checkpoints_and_the_budgets(small):
    assert SMALL.checkpoints == (5, 10, 15, 20, 30, 45, 60, 65, 100, 120)
    assert small.accuracy.shape == (2, 2, 3, 4, 10)
    np.testing.assert_array_equal(small.after(60), small.accuracy[..., 6])
    assert (small.after(120)[1] > 0.5).all()


def test_a_budget_is_what_a_run_of_so_many_steps_gives(small):
    """The learning rate is constant, so one run has all smaller budgets in it."""
    shorter = experiment.run(dataclasses.replace(SMALL, budgets=(60,), scales=(1.0,)))
    np.testing.assert_array_equal(shorter.after(60)[:, 0], small.after(60)[:, 1])


def test_accuracy_is_of_the_test_examples_in_eval_mode(monkeypatch):
    """So that the noise of mini-batches of two has no part in it."""
    seen = []
    monkeypatch.setattr(
        experiment, "record_test_accuracy", lambda state: seen.append(state.step) or [0.5, 0.6]
    )
    config = dataclasses.replace(SMALL, scales=(1.0,), rates=(0.1,), seeds=2, budgets=(10,))
    result = experiment.run(config)
    assert seen == [5, 10, 5, 10]
    np.testing.assert_array_equal(result.accuracy[..., 0], [[[[0.5, 0.6]]]] * 2)


def test_largest_rate_is_the_largest_that_trains():
    ok, bad = 0.9, 0.1
    seeds = [[ok, bad, bad], [ok, bad, bad], [bad, ok, bad]]  # (r, k)
    result = fabricated(np.array(seeds)[None, None, :, :, None])
    largest = result.largest_rate(5)
    np.testing.assert_allclose(largest.low[0, 0], [0, 1, -np.inf])
    np.testing.assert_allclose(largest.high[0, 0], [1, np.inf, -1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": (1.0, 0.1)}, r"rates: expected increasing positive numbers, got \(1.0, 0.1\)"),
        ({"budgets": ()}, "budgets: expected increasing positive numbers"),
        ({"budgets": (0, 5)}, "budgets: expected increasing positive numbers"),
    ],
)
def test_bad_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_steps_are_interpolated_between_checkpoints():
    """Accuracies after 5, 10 and 15 steps: 0.7 lies in the middle, at once, or never."""
    seeds = [[0.6, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.6]]  # (k, c)
    steps = fabricated(np.array(seeds)[None, None, None]).steps_to(0.7)
    half = np.log10(5 * 2**0.5)
    np.testing.assert_allclose(steps.low[0, 0, 0], [half, -np.inf, np.log10(15)])
    np.testing.assert_allclose(steps.high[0, 0, 0], [half, np.log10(5), np.inf])


def test_a_target_that_is_lost_again_counts_from_when_it_was_first_reached():
    steps = fabricated(np.array([0.1, 0.9, 0.1])[None, None, None, None]).steps_to(0.5)
    np.testing.assert_allclose(steps.low, np.log10(5 * 2**0.5))


def test_steps_that_were_not_enough_are_a_bound():
    """One network reaches the target between 5 and 10 steps, the other does not."""
    fast, slow = np.array([[0.1, 0.95], [0.2, 0.95]]), np.full((2, 2), 0.1)  # (k, c)
    arms = np.stack([slow, fast])[:, None, None]
    for verdict in experiment.judge_speed(fabricated(arms)).values():
        assert (verdict.bound, verdict.answer) == ("at least", "undecided")
        assert verdict.effect > 0
    for verdict in experiment.judge_speed(fabricated(arms[::-1])).values():
        assert (verdict.bound, verdict.effect < 0) == ("at most", True)
    neither = experiment.judge_speed(fabricated(arms[[0, 0]])).values()
    assert {verdict.answer for verdict in neither} == {"cannot tell"}


def test_best_rate_of_a_seed_is_chosen_on_the_others():
    """Two of three seeds are better at the second rate; the third alone would prefer the first."""
    accuracy = np.array([[0.6, 0.6, 0.9], [0.8, 0.8, 0.7], [0.1, 0.1, 0.1]])  # (r, k)
    result = fabricated(accuracy[None, None, :, :, None])
    np.testing.assert_allclose(result.best_after(5)[0, 0], [0.6, 0.6, 0.7])


def test_the_fastest_of_rates_that_do_not_arrive_is_the_most_accurate():
    accuracy = np.array([[[0.1, 0.2]] * 2, [[0.1, 0.6]] * 2])[None, None]  # (n, s, r, k, c)
    result = fabricated(accuracy)
    np.testing.assert_array_equal(result.fastest(0.9).low, np.log10(10))
    np.testing.assert_allclose(result.fastest(0.6).high, 1)


def test_diverged_runs_classify_nothing_right():
    config = dataclasses.replace(SMALL, norms=("none",), rates=(1e9,), depth=8, budgets=(30,))
    result = experiment.run(config)
    assert (result.after(30) < 0.2).all()  # a run whose units all died guesses
    assert (result.after(30) == 0).mean() > 0.5


def test_batch_norm_trains_at_higher_rates_and_faster(small):
    for key, verdict in experiment.judge(small).items():
        assert verdict.effect > 0, key
    assert overall(experiment.judge_rates(small), *experiment.RATE_FACTORS) == "supported"
    speed = overall(experiment.judge_speed(small), *experiment.SPEED_FACTORS)
    assert speed.startswith("supported")


def test_initialization_is_judged_by_how_many_scales_train():
    """One arm trains at one of three scales, the other, much better, at all of them.

    A range of logarithms of the loss, capped above only, would not see the difference.
    """
    good, bad = [0.9, 0.91], [0.1, 0.1]  # (k,)
    plain, norm = [good, bad, bad], [[0.95, 0.96], [0.97, 0.99], [0.9, 0.93]]  # (s, k)
    result = fabricated(np.array([plain, norm])[:, :, None, :, None])
    verdicts = experiment.judge_initialization(result)
    assert overall(verdicts, *experiment.START_FACTORS).startswith("supported")
    share = verdicts["share of scales and rates that train", "5 steps"]
    assert share.effect == pytest.approx(2 / 3)
    tuned = verdicts["accuracy, rate tuned at each s", "5 steps"]
    assert tuned.effect == pytest.approx(np.mean([0.8 - 0.07, 0.81 - 0.06]))
    assert tuned.answer == "supported"


def test_rate_tuned_at_he_is_kept_at_the_other_scales():
    """Each scale trains at a rate of its own: tuned, nothing is lost, and kept, all."""
    right, wrong = [0.9, 0.92], [0.1, 0.13]
    norm = [[right, wrong], [wrong, right]]  # (s, r, k)
    plain = [[right, wrong], [wrong, wrong]]
    verdicts = experiment.judge_initialization(fabricated(np.array([plain, norm])[..., None]))
    assert verdicts["accuracy, rate tuned at s = 1", "5 steps"].effect == pytest.approx(0)
    assert verdicts["accuracy, rate tuned at each s", "5 steps"].effect == pytest.approx(0.795)


def test_bounds_of_the_grid_contain_the_true_effect():
    """Simulated networks that train up to any rate; the grid sees two neighbours of it alone.

    The interval contains the true effect at least as often as it promises, and is never narrower
    than the steps of the grid.
    """
    rng, rates, contained = np.random.default_rng(0), (0.1, 0.32, 1.0, 3.2, 10.0), []
    for _ in range(300):
        edge = rng.normal(0, 0.2, (2, 16)) + np.array([[-0.25], [0.25]])  # (n, k), log10 of a rate
        trains = np.log10(rates)[:, None] <= edge[:, None]  # (n, r, k)
        result = fabricated(np.where(trains, 0.9, 0.1)[:, None, ..., None], rates=rates)
        (verdict,) = experiment.judge_rates(result).values()
        contained.append(verdict.low <= 0.5 <= verdict.high)
        assert verdict.high - verdict.low > 0.9
    assert np.mean(contained) >= 0.95


@pytest.mark.parametrize(
    ("edges", "bound", "answer"),
    [
        ((0.0, 1.5), "at least", "supported"),
        ((1.5, 0.0), "at most", "refuted"),
        ((1.5, 1.5), "", "cannot tell"),
        ((-2.0, -2.0), "", "cannot tell"),
    ],
)
def test_rates_beyond_the_grid_are_bounds(edges, bound, answer):
    rates = (0.1, 0.32, 1.0, 3.2, 10.0)
    trains = np.log10(rates)[:, None] <= np.repeat(edges, 16).reshape(2, 1, 16)
    result = fabricated(np.where(trains, 0.9, 0.1)[:, None, ..., None], rates=rates)
    (verdict,) = experiment.judge_rates(result).values()
    assert (verdict.bound, verdict.answer) == (bound, answer)


def test_judges_find_nothing_between_seeds_of_one_network():
    """Batch norm on both sides, from other weights and in another order."""
    config = dataclasses.replace(SMALL, norms=("batch", "batch again"), seeds=12)
    result = experiment.run(config)
    assert (result.after(60)[0] != result.after(60)[1]).any()
    for verdict in experiment.judge(result).values():
        assert verdict.answer not in ("supported", "refuted")


def test_one_scale_is_not_judged_for_initialization(small):
    one = dataclasses.replace(
        small, config=dataclasses.replace(SMALL, scales=(1.0,)), accuracy=small.accuracy[:, 1:]
    )
    assert {key[0] for key in experiment.judge(one)} == {"rates", "speed"}


def test_judge_refuses_one_norm(small):
    one = dataclasses.replace(small, config=dataclasses.replace(SMALL, norms=("none",)))
    for judge in (experiment.judge, experiment.judge_initialization):
        with pytest.raises(ValueError, match="two arms"):
            judge(one)
