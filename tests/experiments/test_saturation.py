from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from bnlib.experiments import saturation as experiment

SMALL = experiment.Config(budgets=(30, 60), rates=(0.1, 1.0), depth=3, width=16, seeds=4)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_shapes(small):
    arm = "tanh", "batch", 10.0
    assert small.saturated[arm].shape == (3, 4, 3)
    assert small.accuracy[arm].shape == (3, 4)


def test_large_weights_saturate_units_and_batch_norm_does_not_let_them(small):
    for activation in SMALL.activations:
        none, batch = (small.saturated[activation, each, 10.0][0] for each in SMALL.norms)
        assert none.min() > 0.5
        assert batch.max() < 0.25


def test_share_of_standard_normal_inputs_hits_the_theory(small):
    """At the start batch norm makes the inputs of each unit about standard normal."""
    for activation, end in (("sigmoid", np.log(19)), ("tanh", np.arctanh(0.9))):
        share = small.saturated[activation, "batch", 1.0][0, :, 1:].mean()
        np.testing.assert_allclose(share, 2 * norm.cdf(-end), atol=0.04)


def fake(none, batch):
    """Make a result whose shares and accuracies are these, (k,), at all times and layers."""
    config = replace(SMALL, activations=("tanh",), scales=(10.0,))
    arms = {("tanh", "none", 10.0): none, ("tanh", "batch", 10.0): batch}
    saturated = {a: np.tile(np.asarray(v)[None, :, None], (3, 1, 3)) for a, v in arms.items()}
    return experiment.Result(config, saturated, {a: each[..., 0] for a, each in saturated.items()})


@pytest.mark.parametrize(("share", "answer"), [(0.2, "supported"), (0.3, "refuted")])
def test_healthy_is_below_the_limit_whatever_the_control_is(share, answer):
    for none in (0.0, 0.9):
        result = fake([none] * 3, share + np.array([0.0, 0.01, -0.01]))
        verdicts = experiment.judge(result)
        assert {each.answer for each in verdicts.values()} == {answer}
    worst = result.saturated["tanh", "batch", 10.0]
    worst[..., 1] += 0.6  # one layer decides
    assert {each.answer for each in experiment.judge(result).values()} == {"refuted"}


def test_identity_in_the_place_of_batch_norm_changes_little():
    config = replace(SMALL, norms=("none", "identity"), scales=(1.0,), seeds=16)
    verdicts = experiment.judge_difference(experiment.run(config))
    answers = {case[2]: each.answer for case, each in verdicts.items()}
    assert answers.pop("at the start") == "cannot tell"  # it is the same network
    assert {*answers.values()} <= {"no effect", "undecided"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norms": ("none",)}, "norms: expected two arms"),
        ({"activations": ("relu",)}, "activations: expected sigmoid and tanh"),
        ({"budgets": (60, 30)}, "budgets: expected increasing positive numbers"),
        ({"budgets": ()}, "budgets: expected increasing positive numbers"),
    ],
)
def test_impossible_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        experiment.Config(**change)
