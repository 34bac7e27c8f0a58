import dataclasses

import numpy as np
import pytest

from bnlib.experiments import shifted_batch_norm as experiment
from bnlib.experiments.engine import networks

SMALL = experiment.Config(
    strengths=(0.0, 2.0), rates=(0.01, 0.3), depth=4, width=12, budgets=(10, 20), every=10, seeds=4
)


def change(**settings):
    return dataclasses.replace(SMALL, **settings)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_shapes(small):
    assert small.loss.shape == small.accuracy.shape == small.distance.shape == (2, 2, 2, 2, 4)


def test_other_seeds_of_the_control_are_not_an_effect():
    config = change(norms=("none", "none again"), strengths=(0.0, 0.0), seeds=12)
    verdict = experiment.judge(experiment.run(config))["none again, shift 0"]
    assert verdict.answer not in {"supported", "refuted"}
    assert verdict.effect != 0


def test_a_budget_is_what_a_run_of_so_many_steps_gives(small):
    shorter = experiment.run(change(budgets=(10,)))
    for field in ("loss", "accuracy", "distance"):
        np.testing.assert_array_equal(getattr(shorter, field)[0], getattr(small, field)[0])


def test_swapped_arms_flip_the_sign():
    same = {"strengths": (0.0, 0.0)}
    one = experiment.judge(experiment.run(change(**same)))["batch, shift 0"]
    other = experiment.judge(experiment.run(change(norms=("batch", "none"), **same)))
    assert one.effect < 0
    assert other["none, shift 0"].effect == pytest.approx(-one.effect)


def test_shift_slows_a_network_without_batch_norm(small):
    """The judge can answer "supported"."""
    assert experiment.judge(small)["none, shift 2"].answer == "supported"


def test_the_shift_is_what_was_injected(small):
    """Two draws from U(-n, n) differ by 2 n / 3 on average; batch norm's own shift is less."""
    injected = 10 ** small.distance[:, 1, 1].mean(axis=-1)
    assert (injected > 0.5 * 2 * (2 * 0.5) / 3).all()
    assert (small.distance[:, 1, 0] < small.distance[:, 1, 1] - 0.3).all()
    assert experiment.judge_shift(small, 1).effect == pytest.approx(
        (small.best("distance", 1, 1) - small.best("distance", 0, 0)).mean()
    )


def test_each_arm_has_its_own_best_rate(small):
    loss = np.ones_like(small.loss)
    loss[0, 0, 0, 1] = loss[0, 1, 1, 0] = 0.5
    result = dataclasses.replace(small, loss=loss)
    assert (result.best_rate(0, 0), result.best_rate(1, 1)) == (1, 0)
    assert experiment.judge_rate(result, 1, 0).effect == -0.5


def test_loss_of_a_network_that_diverges_is_at_least_that_of_guessing(small):
    loss = small.loss + np.linspace(0, 0.01, small.config.seeds)
    loss[0, 0, 0], loss[0, 0, 1] = 0.5, np.inf
    verdict = experiment.judge(dataclasses.replace(small, loss=loss))["none, shift 2"]
    assert verdict.effect == pytest.approx(experiment.GUESSING - 0.5)
    assert (verdict.bound, verdict.high) == ("at least", np.inf)


def test_a_shift_that_does_not_arrive_tells_nothing(small):
    """It arrives within 10 steps, and over 20 the layers see less than without norm."""
    distance = np.zeros(small.distance.shape) + np.linspace(0, 0.01, small.config.seeds)
    distance[0, 1, 1], distance[1, 1, 1] = 1.0, -1.0
    result = dataclasses.replace(small, loss=0.5 * small.loss, distance=distance)
    verdicts = experiment.judge_budgets(result)
    assert verdicts.keys() == {("shift 2", "10 steps"), ("shift 2", "20 steps")}
    assert verdicts["shift 2", "10 steps"] == experiment.judge(result)["batch, shift 2"]
    assert verdicts["shift 2", "20 steps"].answer == "cannot tell"
    assert "no more shift" in verdicts["shift 2", "20 steps"].reason
    distance[0, 1, 1] = np.nan  # diverged, or its units are dead
    assert experiment.judge_budgets(result)["shift 2", "10 steps"].answer == "cannot tell"


def test_networks_that_do_not_learn_tell_nothing(small):
    distance = np.zeros(small.distance.shape)
    distance[:, 1] = np.linspace(1, 2, small.config.seeds)
    loss = experiment.GUESSING + np.linspace(0, 0.1, small.config.seeds) + np.zeros_like(distance)
    result = dataclasses.replace(small, loss=loss, distance=distance)
    verdict = experiment.judge_budgets(result)["shift 2", "10 steps"]
    assert (verdict.answer, verdict.reason) == ("cannot tell", "neither arm learns")


@pytest.mark.parametrize("settings", [{"budgets": ()}, {"budgets": (20, 10)}, {"every": 7}])
def test_bad_budgets_are_refused(settings):
    with pytest.raises(ValueError, match=r"(budgets|every): expected"):
        change(**settings)


def test_the_networks_of_strength_0_are_the_plain_ones():
    config = networks.Config(depth=2, width=4, seeds=2)
    assert repr(experiment.build(config, 0.0)) == repr(networks.build(config))
    names = [type(layer).__name__ for layer in experiment.build(config, 1.0)]
    assert names == ["Linear", "RandomShift", "ReLU"] * 2 + ["Linear"]


def test_one_norm_cannot_be_judged(small):
    with pytest.raises(ValueError, match="two arms"):
        experiment.judge(dataclasses.replace(small, config=change(norms=("none",))))
