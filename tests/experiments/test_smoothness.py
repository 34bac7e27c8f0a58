import dataclasses

import numpy as np
import pytest

from bnlib.experiments import smoothness as experiment

SMALL = experiment.Config(
    rates=(0.01, 0.1), best=(0.1, 0.32), depth=4, width=16, steps=40, every=10, seeds=4
)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_every_norm_is_measured_at_every_rate(small):
    assert SMALL.grid == (0.01, 0.1, 0.32)
    assert small.values.shape == (2, 3, 4, 5, 3)
    assert small.mean("smoothness").shape == (2, 3, 4)


def test_what_cannot_be_measured_is_nan():
    """One step has no range of losses; its gradient change is fine."""
    values = experiment.run(dataclasses.replace(SMALL, factors=(0.5,), steps=0)).values
    assert np.isnan(values[..., 0]).all()
    assert np.isfinite(values[..., 1:]).all()


def test_judge_compares_the_rates_that_it_names(small):
    verdicts = experiment.judge(small)
    loss_range, beta = (small.mean(name) for name in ("loss range", "smoothness"))
    expected = {
        "loss range, both at 0.01": loss_range[0, 0] - loss_range[1, 0],
        "loss range, each at its best": loss_range[0, 1] - loss_range[1, 2],
        "smoothness, both at 0.1": beta[0, 1] - beta[1, 1],
        "smoothness, each at its best": beta[0, 1] - beta[1, 2],
    }
    assert len(verdicts) == 6
    for case, difference in expected.items():
        np.testing.assert_allclose(verdicts[case].effect, difference.mean())


def test_judge_finds_nothing_between_seeds_of_one_network():
    config = dataclasses.replace(SMALL, norms=("batch",), best=(0.1,), seeds=12)
    values = [
        experiment.run(dataclasses.replace(config, first_seed=first)).values for first in (0, 100)
    ]
    config = dataclasses.replace(config, norms=("batch", "batch"), best=(0.1, 0.1))
    verdicts = experiment.judge(experiment.Result(config, np.concatenate(values)))
    assert {verdict.answer for verdict in verdicts.values()} == {"no effect"}


def test_judge_refuses_a_network_that_could_not_be_measured(small):
    values = small.values.copy()
    values[0, 0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        experiment.judge(experiment.Result(SMALL, values))
