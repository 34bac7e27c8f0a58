import dataclasses

import numpy as np
import pytest

from bnlib.experiments import smoothness as experiment
from bnlib.experiments.engine import networks, training
from bnlib.experiments.records.verdict import overall

SMALL = experiment.Config(
    rates=(0.01, 0.1), best=(0.1, 0.32), depth=4, width=16, steps=40, every=10, seeds=4
)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_every_norm_is_measured_at_every_rate(small):
    assert SMALL.grid == (0.01, 0.1, 0.32)
    assert small.steps.tolist() == [0, 10, 20, 30, 40]
    assert small.values.shape == (2, 3, 4, 5, 3)
    assert small.loss.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(small.late("smoothness"), small.of("smoothness")[..., 4])


def test_loss_is_a_mean_of_mini_batches(small):
    """At step 0 there is one; the 20 or so before the last differ less between neighbours."""
    config = networks.Config.of(SMALL, norm="none", lr=SMALL.grid, dtype="float32")
    loss = training.train(config).loss.reshape(3, 4, -1)
    np.testing.assert_allclose(small.loss[0, :2, :, 0], loss[:2, :, 0], rtol=1e-5)
    np.testing.assert_allclose(small.loss[0, :2, :, 4], loss[:2, :, 31:].mean(axis=-1), rtol=1e-3)


def test_what_cannot_be_measured_is_nan():
    """One step has no range of losses; its gradient change is fine."""
    values = experiment.run(dataclasses.replace(SMALL, factors=(0.5,), steps=0)).values
    assert np.isnan(values[..., 0]).all()
    assert np.isfinite(values[..., 1:]).all()


def test_judge_compares_the_rates_and_times_that_it_names(small):
    verdicts = experiment.judge(small)
    loss_range, beta = (small.of(name) for name in ("loss range", "smoothness"))
    expected = {
        ("loss range", "both at 0.01", "at the start"): (loss_range[0, 0] - loss_range[1, 0], 0),
        ("loss range", "each at its best", "at the end"): (loss_range[0, 1] - loss_range[1, 2], 4),
        ("smoothness", "both at 0.1", "at the start"): (beta[0, 1] - beta[1, 1], 0),
        ("smoothness", "each at its best", "at the end"): (beta[0, 1] - beta[1, 2], 4),
    }
    assert len(verdicts) == 18
    for case, (difference, record) in expected.items():
        np.testing.assert_allclose(verdicts[case].effect, difference[:, record].mean())


def fabricated(values, loss):
    """Make a result of one rate, equal in both measures, from (n, k, t)."""
    config = dataclasses.replace(SMALL, rates=(0.1,), best=(0.1, 0.1))
    values = np.repeat(np.asarray(values, float)[:, None, ..., None], 3, axis=-1)
    return experiment.Result(config, values, np.asarray(loss, float)[:, None])


def test_equal_loss_compares_records_of_about_that_loss():
    """The measure is -log10 of the loss in both arms, but one is ten times as fast."""
    slow = np.array([[2.3, 2.0, 1.6, 1.3, 1.0], [2.4, 2.1, 1.7, 1.2, 1.01]])
    fast = np.array([[2.3, 1.0, 0.2, 0.1, 0.1], [2.4, 1.02, 0.3, 0.1, 0.1]])
    loss = np.stack([slow, fast])
    verdicts = experiment.judge(fabricated(np.log10(loss), loss))
    for measure in ("loss range", "smoothness"):
        assert verdicts[measure, "both at 0.1", "at the end"].effect == pytest.approx(1, abs=0.01)
        assert abs(verdicts[measure, "both at 0.1", "at equal loss"].effect) < 0.06


def test_sign_that_changes_with_time_depends_on_the_time():
    """Rougher by a decade at the start, smoother by one at the end."""
    rng = np.random.default_rng(0)
    change = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    values = rng.normal(0, 0.05, (2, 4, 5)) - np.multiply.outer([0, 1], change)[:, None]
    verdicts = experiment.judge(fabricated(values, np.full((2, 4, 5), experiment.LOSS)))
    assert overall(verdicts, *experiment.FACTORS) == "it depends on the time in training"


def test_judge_finds_nothing_between_seeds_of_one_network():
    config = dataclasses.replace(SMALL, norms=("batch", "batch again"), best=(0.1, 0.1), seeds=12)
    for case, verdict in experiment.judge(experiment.run(config)).items():
        assert verdict.answer not in ("supported", "refuted"), case


def test_judge_refuses_a_network_that_could_not_be_measured(small):
    values = small.values.copy()
    values[0, 0, 0, 4] = np.nan
    with pytest.raises(ValueError, match="finite"):
        experiment.judge(dataclasses.replace(small, values=values))
