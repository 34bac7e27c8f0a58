from dataclasses import replace

import numpy as np
import pytest

from bnlib.experiments.inference import Config, judge, judge_staleness, run

SMALL = Config(
    seeds=4,
    steps=24,
    depth=1,
    width=16,
    momenta=(0.1, 0.001, 1.0, None),
    checkpoints=(0, 24),
    recalibration_batches=10,
    test_sizes=(4, 16),
    shuffles=2,
    n_test=96,
)


@pytest.fixture(scope="module")
def result():
    return run(SMALL)


@pytest.fixture(scope="module")
def control():
    return run(replace(SMALL, norm="none"))


def test_shapes_have_a_row_for_each_seed(result):
    assert set(result.accuracy) == {"train mode", "recalibrated", 0.1, 0.001, 1.0, None}
    assert {a.shape for a in result.accuracy.values()} == {(4, 2)}
    assert {c.shape for c in result.changed.values()} == {(4, 2)}


def test_network_of_one_seed_does_not_depend_on_the_others(result):
    fewer = run(replace(SMALL, seeds=2))
    np.testing.assert_allclose(fewer.accuracy[0.1], result.accuracy[0.1][:2])


def test_order_of_the_momenta_does_not_matter(result):
    reordered = run(replace(SMALL, momenta=SMALL.momenta[::-1]))
    for name, accuracy in result.accuracy.items():
        np.testing.assert_array_equal(reordered.accuracy[name], accuracy)


def test_measuring_does_not_change_the_training(result):
    once = run(replace(SMALL, checkpoints=(24,)))
    for name in ("recalibrated", *SMALL.momenta):
        np.testing.assert_array_equal(once.accuracy[name][:, 0], result.accuracy[name][:, 1])


def test_predictions_change_in_train_mode_only(result):
    assert (result.changed["train mode"] > 0).all()
    assert not result.changed["eval mode"].any()
    assert judge(result).answer == "supported"


def test_smaller_test_batches_change_more_predictions(result):
    small, large = result.changed["train mode"].mean(axis=0)
    assert small > large


def test_cumulative_average_starts_as_the_last_batch(result):
    np.testing.assert_array_equal(result.accuracy[None][:, 0], result.accuracy[1.0][:, 0])


def test_stale_statistics_lower_the_accuracy(result):
    assert judge_staleness(result, 0.001, step=24).answer == "supported"


def test_without_a_norm_there_is_nothing_to_tell(control):
    assert judge_staleness(control, 0.001, step=24).answer == "cannot tell"
    for accuracy in control.accuracy.values():
        np.testing.assert_array_equal(accuracy, control.accuracy["train mode"])


def test_one_changed_prediction_in_eval_mode_refutes(result):
    changed = {**result.changed, "eval mode": result.changed["eval mode"].copy()}
    changed["eval mode"][0, 0] = 1 / 96
    assert judge(replace(result, changed=changed)).answer == "refuted"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_test": 100}, "divisors of n_test"),
        ({"test_sizes": (7,)}, "divisors of n_test"),
        ({"checkpoints": (25,)}, "checkpoints"),
        ({"checkpoints": (-1,)}, "checkpoints"),
    ],
)
def test_impossible_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_more_test_images_than_there_are_are_refused():
    with pytest.raises(ValueError, match="n_test: expected at most 397, got 400"):
        run(replace(SMALL, n_test=400))
