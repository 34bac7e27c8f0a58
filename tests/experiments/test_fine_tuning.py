from dataclasses import replace

import numpy as np
import pytest

from bnlib.experiments import fine_tuning as experiment
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.statistics_modes import batch_norms

SMALL = experiment.Config(
    pretraining=40,
    rates=(0.01, 0.03),
    head_rates=(0.3, 1.0),
    budgets=(10, 20),
    n_train=40,
    width=8,
    seeds=3,
)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_shapes(small):
    assert len(small.tuned) == 4 * 3 * 2
    for tuned in small.tuned.values():
        assert tuned.moved.shape == (2, 3)
        for accuracies in tuned.accuracies:
            assert accuracies.shape == (2, 3, 2)


def test_the_treatment_is_given(small):
    """Frozen statistics stay where they were, and those of the other arms do not."""
    for (arm, *case), tuned in small.tuned.items():
        if arm == "frozen":
            assert (tuned.moved == 0).all()
        else:
            assert (tuned.moved > 0.05).all(), (arm, *case)
    measured = [small.tuned["measured", trained, 0.5].moved for trained in ("head", "all")]
    np.testing.assert_array_equal(*measured)  # before the first step, and never again


def test_old_and_new_classes_share_no_example():
    data = networks.load("digits")
    old, new = (experiment.select(data, new=new) for new in (False, True))
    for i in (1, 5):
        np.testing.assert_array_equal(np.unique(old[i]), np.arange(5))
        np.testing.assert_array_equal(np.unique(new[i]), np.arange(5))
        assert len(old[i]) + len(new[i]) == len(data[i])
    np.testing.assert_array_equal(new.x_train, data.x_train[data.y_train >= 5])
    assert len(new.y_test) == 199


def test_no_example_is_trained_on_and_tested_on():
    drawn = networks.Config(n_train=100, redraw=True, seeds=2)
    new = experiment.select(networks.load("digits"), new=True)
    before = networks.redraw(drawn, new)
    data = experiment.split(before)
    for part in ("x", "y"):
        sets = [getattr(data, f"{part}_{name}") for name in ("train", "valid", "test")]
        everything = np.concatenate([*map(np.atleast_2d, sets)], axis=1)
        for one in everything:
            own = np.concatenate([getattr(new, f"{part}_train"), getattr(new, f"{part}_test")])
            assert sorted(each.tobytes() for each in one) == sorted(each.tobytes() for each in own)
    assert data.y_test.shape == (2, len(new.y_test) + before.y_valid.shape[1] - 298)
    assert data.y_valid.shape == (2, 298)


def test_paler_images_keep_white():
    data = networks.load("digits")
    plain, pale = (experiment.select(data, new=True, contrast=c) for c in (1.0, 0.25))
    np.testing.assert_allclose(1 - pale.x_test, (1 - plain.x_test) / 4)
    np.testing.assert_array_equal(pale.y_test, plain.y_test)


@pytest.mark.parametrize(
    ("trained", "moves"),
    [
        ("head", {"6.weight", "6.bias"}),
        ("norms", {"6.weight", "6.bias", "1.gamma", "1.beta", "4.gamma", "4.beta"}),
        ("all", None),
    ],
)
@pytest.mark.parametrize("arm", experiment.STATISTICS)
def test_what_is_not_trained_stays(arm, trained, moves, monkeypatch):
    made, build = [], experiment.build
    monkeypatch.setattr(experiment, "build", lambda *given: made.append(build(*given)) or made[-1])
    config = replace(SMALL, arms=(arm, arm), others=(), trained=(trained,), contrasts=(1.0,))
    experiment.run(config)
    backbone, tuned = made[:2]
    assert len(tuned) == 7
    changed = {
        name
        for name, value in tuned.parameters.items()
        if name.startswith("6") or (value != np.tile(backbone.parameters[name].T, 2).T).any()
    }
    assert changed == (moves or set(tuned.parameters))


def test_measured_statistics_are_those_of_the_new_examples(monkeypatch):
    made, build = [], experiment.build
    monkeypatch.setattr(experiment, "build", lambda *given: made.append(build(*given)) or made[-1])
    experiment.run(replace(SMALL, arms=("measured",) * 2, others=(), contrasts=(0.5,)))
    tuned, source = made[1:3]
    drawn = networks.Config(n_train=40, redraw=True, batch_size=16, seeds=3, lr=SMALL.head_rates)
    new = experiment.select(networks.load("digits"), new=True, contrast=0.5)
    x = networks.redraw(drawn, new).x_train @ source.parameters["0.weight"].astype(float)
    running = batch_norms(tuned)[0].running
    np.testing.assert_allclose(running.mean, x.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(running.var, x.var(axis=1, ddof=1), rtol=1e-3)


def test_kept_statistics_stay_in_train_mode():
    config = networks.Config(depth=1, norm="batch", seeds=2)
    x = np.random.default_rng(0).normal(3, 1, size=(2, 8, 64))
    for statistics in experiment.STATISTICS:
        network = experiment.build(config, statistics).train()
        (norm,) = batch_norms(network)
        before = norm.running.mean
        network(x)
        assert (norm.running.mean == before).all() == (statistics != "moving")


def test_batch_statistics_do_not_see_the_light():
    """A change of contrast and brightness of all images is removed by the first norm."""
    config = replace(SMALL, others=(), budgets=(100,), head_rates=(0.3,), rates=(0.03,))
    tuned = experiment.run(config).tuned
    for trained in experiment.TRAINED:
        plain, pale = (tuned["moving", trained, c].accuracies.test for c in (1.0, 0.5))
        assert np.abs(plain - pale).max() < 0.06, trained
    frozen = [tuned["frozen", "head", c].accuracies.test for c in (1.0, 0.5)]
    assert np.abs(frozen[0] - frozen[1]).max() > 0.1


def test_again_is_the_same_backbone_with_another_head_and_order(small):
    one, other = (small.tuned[arm, "head", 1.0] for arm in ("moving", "moving again"))
    assert (one.accuracies.test != other.accuracies.test).any()
    np.testing.assert_allclose(one.moved, other.moved, rtol=0.5)


def test_the_rate_is_chosen_on_validation_data_of_the_other_seeds():
    valid = np.array([[0.9, 0.1, 0.5], [0.1, 0.6, 0.6]])[..., None]
    test = np.array([[0.2, 0.2, 0.2], [0.7, 0.7, 0.7]])[..., None]
    config = replace(SMALL, budgets=(10,))
    tuned = experiment.Tuned(experiment.Accuracies(valid, test), np.array([[1, 2, 3], [4, 5, 6]]))
    result = experiment.Result(config, {("frozen", "all", 1.0): tuned})
    assert result.accuracy("frozen", "all", 1.0, 10).tolist() == [0.7, 0.2, 0.2]
    assert result.moved("frozen", "all", 1.0).tolist() == [4, 2, 3]


def test_arms_that_do_not_learn_tell_nothing(small):
    guesses = {
        case: each._replace(accuracies=experiment.Accuracies(*(0.3 * a for a in each.accuracies)))
        for case, each in small.tuned.items()
    }
    for verdict in experiment.judge(replace(small, tuned=guesses)).values():
        assert (verdict.answer, verdict.reason) == ("cannot tell", "neither arm learns")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ("frozen",)}, "arms: expected two arms"),
        ({"arms": ("frozen", "thawed")}, "arms: expected some of"),
        ({"others": ("batch",)}, "others: expected some of"),
        ({"trained": ("tail",)}, "trained: expected some of"),
        ({"rates": (1.0, 0.1)}, "rates: expected increasing positive numbers"),
        ({"budgets": ()}, "budgets: expected increasing positive numbers"),
    ],
)
def test_impossible_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        experiment.Config(**change)
