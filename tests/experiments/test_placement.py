from dataclasses import replace

import numpy as np
import pytest

from bnlib import layers
from bnlib.experiments import placement as experiment
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.probe_layers import ScaleAndShift

SMALL = experiment.Config(
    others=("none", "after again"),
    activations=("relu",),
    depths=(2,),
    rates=(0.01, 0.1, 1000.0),
    budgets=(20, 40),
    width=12,
    seeds=4,
)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_shapes(small):
    for arm in ("after", "before", "none", "after again"):
        for accuracies in small.curves[arm, "relu", 2]:
            assert accuracies.shape == (3, 4, len(SMALL.checkpoints))
    assert SMALL.checkpoints == (5, 10, 15, 20, 30, 40)


@pytest.mark.parametrize(
    ("place", "behind", "bias"),
    [
        ("none", [layers.Tanh], True),
        ("before", [layers.BatchNorm, layers.Tanh], False),
        ("after", [layers.Tanh, layers.BatchNorm], True),
        ("identity before", [ScaleAndShift, layers.Tanh], False),
        ("identity after", [layers.Tanh, ScaleAndShift], True),
    ],
)
def test_each_hidden_layer_has_the_norm_at_its_place(place, behind, bias):
    config = networks.Config(activation="tanh", depth=2, seeds=2)
    network = experiment.build(config, place)
    kinds = [type(layer) for layer in network]
    assert kinds == [layers.Linear, *behind] * 2 + [layers.Linear]
    assert ("bias" in network[0].parameters) == bias
    assert "bias" in network[len(network) - 1].parameters


def test_all_arms_start_from_the_same_weights_but_for_other_seeds(small):
    config = networks.Config(depth=2, seeds=2)
    one, other = (
        experiment.build(config, place).parameters["0.weight"] for place in ("after", "before")
    )
    np.testing.assert_array_equal(one, other)
    curves = [small.curves[arm, "relu", 2].test for arm in ("after", "after again")]
    assert (curves[0] != curves[1]).any()


def test_the_norm_sees_what_its_place_says():
    """Before, its output has mean 0 and variance 1; after, the input of the next layer has."""
    x = np.random.default_rng(0).normal(size=(2, 32, 64))
    for place, layer in (("before", 1), ("after", 2)):
        h = x
        for each in list(experiment.build(networks.Config(depth=1, seeds=2), place))[: layer + 1]:
            h = each(h)
        np.testing.assert_allclose(h.mean(axis=1), 0, atol=1e-6)
        live = h.var(axis=1) > 0.5
        assert live.mean() > 0.9
        np.testing.assert_allclose(h.var(axis=1)[live], 1, atol=0.01)


def test_a_rate_that_does_not_train_is_not_chosen(small):
    none = small.curves["none", "relu", 2]
    assert (none.test[2, :, -1] < 0.2).all()
    for arm in ("none", "after", "before"):
        assert (small.rate(arm, "relu", 2, 40) < 2).all()


def test_a_run_that_diverges_has_accuracy_0():
    config = replace(SMALL, arms=("none", "after"), others=(), rates=(1e30,))
    assert (experiment.run(config).curves["none", "relu", 2].test == 0).all()


def curves(valid, test):
    """Make the curves of an arm from accuracies after the last step, (r, k)."""
    shape = *np.shape(valid), 2
    return experiment.Accuracies(
        *(np.broadcast_to(np.array(a)[..., None], shape) for a in (valid, test))
    )


def fake(**arms):
    config = experiment.Config(
        activations=("relu",), depths=(2,), rates=(0.1, 1.0), budgets=(5, 10), seeds=3
    )
    return experiment.Result(config, {(arm, "relu", 2): each for arm, each in arms.items()})


def test_the_rate_is_chosen_on_validation_data_of_the_other_seeds():
    valid = [[0.9, 0.1, 0.5], [0.1, 0.6, 0.6]]
    test = [[0.2, 0.2, 0.2], [0.7, 0.7, 0.7]]
    result = fake(after=curves(valid, test))
    assert result.rate("after", "relu", 2, 10).tolist() == [1, 0, 0]
    assert result.accuracy("after", "relu", 2, 10).tolist() == [0.7, 0.2, 0.2]
    assert result.accuracy("after", "relu", 2, 10, rate=1.0).tolist() == [0.7, 0.7, 0.7]


def test_a_target_that_is_not_reached_is_a_bound():
    low, high = ([[x, x, x]] * 2 for x in (0.5, 0.95))
    result = fake(after=curves(low, low), before=curves(high, high))
    steps = result.steps("after", "relu", 2)
    np.testing.assert_allclose(steps.low, 1)
    assert np.isinf(steps.high).all()
    (verdict,) = experiment.judge_speed(result).values()
    assert verdict.bound == "at least"


def test_arms_that_do_not_learn_tell_nothing():
    guesses = curves([[0.1, 0.1, 0.1]] * 2, [[0.1, 0.12, 0.08]] * 2)
    better = curves([[0.19, 0.19, 0.19]] * 2, [[0.19, 0.19, 0.18]] * 2)
    for verdict in experiment.judge(fake(after=guesses, before=better)).values():
        assert (verdict.answer, verdict.reason) == ("cannot tell", "neither arm learns")
    learned = curves([[0.9, 0.9, 0.9]] * 2, [[0.9, 0.91, 0.9]] * 2)
    for verdict in experiment.judge(fake(after=guesses, before=learned)).values():
        assert verdict.answer == "supported"


def test_small_rates_favour_after_and_large_ones_before():
    """What the chapter says of the rates: the former while there are few steps."""
    options = {"activations": ("tanh",), "depths": (4,), "rates": (0.056, 1.0)}
    config = replace(SMALL, others=(), budgets=(50, 200), width=32, seeds=16, **options)
    result = experiment.run(config)
    for rate, steps, answer in ((0.056, 50, "refuted"), (1.0, 200, "supported")):
        verdicts = experiment.compare(result, "after", "before", rate)
        assert verdicts["tanh", "depth 4", f"{steps} steps"].answer == answer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ("after",)}, "arms: expected two arms"),
        ({"arms": ("after", "around")}, "arms: expected some of"),
        ({"others": ("batch",)}, "others: expected some of"),
        ({"rates": (1.0, 0.1)}, "rates: expected increasing positive numbers"),
        ({"budgets": ()}, "budgets: expected increasing positive numbers"),
    ],
)
def test_impossible_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        experiment.Config(**change)
