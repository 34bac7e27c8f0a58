from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from bnlib.experiments import reshuffling as experiment
from bnlib.experiments.engine import networks, training

SMALL = experiment.Config(
    norms=("batch",), epochs=(1, 3), rates=(0.03, 0.3), n_train=96, width=12, seeds=3
)
ENGINE = networks.Config(
    n_train=96, redraw=True, batch_size=8, seeds=3, lr=(0.1, 0.2), dtype="float32"
)


@pytest.fixture(scope="module")
def data():
    return networks.load_replicas(ENGINE)


def epochs(order, data, number=2):
    """Return the mini-batches of so many epochs, (epochs, steps, replicas, m)."""
    steps = 96 // 8
    drawn = islice(experiment.ITERATORS[order](ENGINE, data), number * steps)
    return np.stack([*drawn]).reshape(number, steps, 6, 8)


@pytest.mark.parametrize("order", experiment.ORDERS)
def test_each_epoch_has_each_example_once_and_all_rates_the_same(order, data):
    for epoch in epochs(order, data):
        for replica in range(6):
            assert sorted(epoch[:, replica].ravel()) == [*range(96)]
        np.testing.assert_array_equal(epoch[:, :3], epoch[:, 3:])
        assert (epoch[:, 0] != epoch[:, 1]).any()


@pytest.mark.parametrize(("order", "kept"), [("anew", False), ("fixed", True), ("one class", True)])
def test_who_shares_a_mini_batch_changes_only_anew(order, kept, data):
    one, two = (
        {frozenset(batch) for batch in epoch[:, 0].tolist()} for epoch in epochs(order, data)
    )
    assert (one == two) == kept
    first, second = epochs(order, data)
    assert (first != second).any(), "the order of the mini-batches changes"


def test_mini_batches_of_one_class_have_few_classes(data):
    classes = {}
    for order in ("one class", "fixed"):
        (epoch,) = epochs(order, data, 1)
        labels = data.y_train[np.arange(6)[:, None], epoch]
        classes[order] = np.mean([len({*each}) for step in labels for each in step.tolist()])
    assert classes["one class"] < 2.5 < classes["fixed"]


def test_shared_training_examples_are_sorted_too():
    config = replace(ENGINE, redraw=False)
    shared = networks.load_replicas(config)
    batches = np.stack([*islice(experiment.one_class(config, shared), 12)])
    labels = shared.y_train[batches]
    assert (np.ptp(labels, axis=-1) > 0).sum() <= 9 * 6  # at most nine borders between classes


def test_anew_is_what_all_other_experiments_have(data):
    drawn = epochs("anew", data, 1)[0]
    expected = [*islice(training.reshuffled(ENGINE, data), 12)]
    np.testing.assert_array_equal(drawn, expected)


def test_shapes():
    result = experiment.run(SMALL)
    for order in ("anew", "fixed", "one class"):
        assert result.curves[order, "batch"].test.shape == (2, 3, 2)
        assert result.accuracy(order, "batch").shape == (2, 3)


def test_batch_norm_cannot_learn_from_one_class_and_plain_networks_can():
    config = experiment.Config(
        norms=("batch", "none"), epochs=(32,), rates=(0.1,), batch_size=8, width=32, seeds=4
    )
    verdicts = experiment.judge(experiment.run(config))
    assert verdicts["batch", "one class", "32 epochs"].effect > 0.3
    assert abs(verdicts["none", "one class", "32 epochs"].effect) < 0.05
    assert {*experiment.judge_batch_norm(experiment.run(replace(SMALL, others=())))} == {
        ("batch", "fixed", "1 epochs"),
        ("batch", "fixed", "3 epochs"),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"orders": ("fixed", "sorted")}, "orders: expected some of"),
        ({"orders": ("anew",)}, "orders: expected two arms"),
        ({"others": ("random",)}, "others: expected some of"),
        ({"norms": ("ghost",)}, "norms: expected some of"),
        ({"epochs": (4, 2)}, "epochs: expected increasing positive numbers"),
        ({"rates": ()}, "rates: expected increasing positive numbers"),
    ],
)
def test_impossible_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        experiment.Config(**change)


def test_one_norm_can_be_judged_and_none_cannot():
    experiment.check(experiment.Config(norms=("batch",)))
    with pytest.raises(ValueError, match="norms: expected at least one"):
        experiment.check(experiment.Config(norms=()))
