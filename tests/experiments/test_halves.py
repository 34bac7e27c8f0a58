from dataclasses import replace

import numpy as np
import pytest

from bnlib.experiments import halves as experiment

SMALL = experiment.Config(
    others=("none", "batch again"),
    activations=("relu",),
    rates=(0.01, 0.1, 1000.0),
    budgets=(20, 40),
    depth=2,
    width=12,
    seeds=4,
)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_shapes(small):
    assert SMALL.checkpoints == (5, 10, 15, 20, 30, 40)
    assert SMALL.arms == ("scale", "batch", "center", "none", "batch again")
    for arm in SMALL.arms:
        for accuracies in small.curves[arm, "relu"]:
            assert accuracies.shape == (3, 4, 6)
        assert small.accuracies(arm, "relu", 20).shape == (3, 4)
        assert small.accuracy(arm, "relu", 20).shape == (4,)


def test_other_seeds_have_other_curves(small):
    one, other = (small.curves[arm, "relu"].test for arm in ("batch", "batch again"))
    assert (one != other).any()


def test_a_rate_that_does_not_train_is_not_chosen(small):
    none = small.curves["none", "relu"]
    assert (none.test[2, :, -1] < 0.2).all()
    assert (small.accuracy("none", "relu", 40) > 0.2).all()


def curves(valid, test):
    """Make the curves of an arm from accuracies, (r, k, c)."""
    return experiment.Accuracies(np.array(valid, float), np.array(test, float))


def fake(**arms):
    config = replace(SMALL, rates=(0.1, 1.0), budgets=(5, 10), seeds=2, target=0.75)
    return experiment.Result(config, {(arm, "relu"): each for arm, each in arms.items()})


def test_the_rate_is_chosen_on_the_validation_data_of_the_other_seeds():
    valid = [[[0.5, 0.9], [0.5, 0.2]], [[0.5, 0.1], [0.5, 0.6]]]
    test = [[[0.5, 0.3]] * 2, [[0.5, 0.7]] * 2]
    result = fake(scale=curves(valid, test))
    assert result.accuracy("scale", "relu", 10).tolist() == [0.7, 0.3]


def test_the_effect_is_positive_if_both_halves_are_there_before_one():
    early, late = [[[0.7, 0.9], [0.6, 0.9]]] * 2, [[[0.5, 0.8], [0.4, 0.75]]] * 2
    one, both = curves(late, late), curves(early, early)
    result = fake(scale=one, center=both, batch=both)
    found = experiment.judge(result)
    assert found["centring", "relu"].low > 0
    assert found["scaling", "relu"].effect == 0
    assert experiment.judge_centring(result)["relu"] == found["centring", "relu"]
    assert experiment.judge_scaling(result)["relu"] == found["scaling", "relu"]
    (verdict,) = experiment.compare(result, "scale", "batch", 5).values()
    assert verdict.effect == pytest.approx(0.2)


def test_a_target_that_no_arm_reaches_tells_nothing():
    never = curves(*[[[[0.5, 0.6]] * 2] * 2] * 2)
    (verdict,) = experiment.judge_centring(fake(scale=never, batch=never)).values()
    assert verdict.answer == "cannot tell"


def test_arms_that_do_not_learn_tell_nothing():
    guesses = curves(*[[[[0.1, 0.1], [0.1, 0.12]]] * 2] * 2)
    result = fake(center=guesses, scale=guesses)
    (verdict,) = experiment.compare(result, "center", "scale", 10).values()
    assert (verdict.answer, verdict.reason) == ("cannot tell", "neither arm learns")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centring": ("center",)}, "centring: expected two arms"),
        ({"scaling": ("center", "none", "batch")}, "scaling: expected two arms"),
        ({"others": ("whitening",)}, "arms: expected some of"),
        ({"rates": (1.0, 0.1)}, "rates: expected increasing positive numbers"),
        ({"budgets": ()}, "budgets: expected increasing positive numbers"),
    ],
)
def test_impossible_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
