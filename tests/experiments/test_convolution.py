"""The experiment of the chapter on convolution: what must hold for any numbers, and its judge."""

from dataclasses import replace

import numpy as np
import pytest

from bnlib.experiments.convolution import (
    ARMS,
    LIGHTS,
    MODES,
    Config,
    Result,
    judge,
    judge_modes,
    run,
)
from bnlib.experiments.engine import varying_light as lit

SMALL = Config(
    dataset="photos",
    arms=ARMS,
    rates=(0.1, 0.3),
    seeds=2,
    steps=12,
    batch_size=16,
    channels=4,
    n_valid=64,
    n_test=64,
)


@pytest.fixture(scope="module")
def result():
    return run(SMALL)


# ------------------------------------------------------------------ the run


def test_result_holds_every_case_once_a_seed(result):
    modes = {arm: MODES if arm == "batch" else MODES[:1] for arm in ARMS}
    cases = {(a, t, m) for a in ARMS for t in LIGHTS[:2] for m in modes[a]}
    assert result.validation.keys() == cases
    assert result.test.keys() == {(*case, light) for case in cases for light in LIGHTS}
    assert {v.shape for v in result.validation.values()} == {(2, 2)}
    assert {v.shape for v in result.test.values()} == {(2,)}


def test_networks_of_varying_light_are_tested_under_two_lights(result):
    columns = result.by_light("batch", "eval").T
    cases = [("constant", "constant"), ("batch", "batch"), ("batch", "example")]
    for column, (trained, light) in zip(columns, cases, strict=True):
        assert np.array_equal(column, result.accuracy("batch", trained, "eval", light))


def test_mnist_images_are_pooled_to_the_size_of_the_patches():
    data = lit.load("mnist_subset")
    assert data.x_train.shape[1:] == data.x_test.shape[1:] == (1, lit.SIZE, lit.SIZE)
    assert data.x_train.min() >= 0
    assert data.x_train.max() <= 1


def test_validation_images_are_not_trained_on():
    data = lit.load("photos")
    rest, x_valid, y_valid = lit.split(data, SMALL)
    assert len(x_valid) == len(y_valid) == SMALL.n_valid
    assert np.array_equal(np.concatenate([x_valid, rest.x_train]), data.x_train)
    assert len(rest.x_test) == SMALL.n_test


def test_batch_norm_in_train_mode_does_not_see_the_light_of_a_mini_batch(result):
    """The theorem on lighting: the positive control of the experiment."""
    for trained in LIGHTS[:2]:
        constant, varying = (
            result.accuracy("batch", trained, "train", light) for light in LIGHTS[:2]
        )
        np.testing.assert_allclose(constant, varying, atol=0.04)
    np.testing.assert_allclose(result.cost("batch", "train"), 0, atol=0.05)


def test_instance_norm_does_not_see_the_light_of_an_example(result):
    for light in LIGHTS[1:]:
        np.testing.assert_allclose(
            result.accuracy("instance", "constant", "eval", "constant"),
            result.accuracy("instance", "constant", "eval", light),
            atol=0.04,
        )


def test_light_changes_what_a_network_without_norm_answers(result):
    constant, *varying = (result.accuracy("none", "constant", "eval", t) for t in LIGHTS)
    for accuracy in varying:
        assert np.abs(constant - accuracy).max() > 0.04


def test_light_that_does_not_vary_costs_nothing():
    config = replace(SMALL, arms=ARMS[:3], brightness=0.0, contrast=1.0, rates=(0.3,))
    dark = run(config)
    for arm in config.arms:
        for mode in MODES:
            assert np.array_equal(dark.cost(arm, mode), np.zeros(config.seeds)), (arm, mode)


def test_a_rate_that_diverges_does_not_stop_the_others():
    config = replace(SMALL, arms=("batch",), rates=(0.1, 1e20))
    diverging, alone = run(config), run(replace(config, rates=(0.1,)))
    assert diverging.rate("batch", "batch", "eval") == 0.1
    for case, accuracy in alone.test.items():
        np.testing.assert_allclose(diverging.test[case], accuracy, atol=0.05)


def test_control_differs_from_none_in_its_weights_alone():
    data = lit.load("photos")
    none, control = (lit.build(arm, SMALL, data) for arm in ("none", "control"))
    weights = [network.parameters["1.weight"] for network in (none, control)]
    assert weights[0].shape == weights[1].shape
    assert not np.isclose(*weights).any()


def test_every_rate_starts_from_the_same_weights():
    network = lit.build("batch", SMALL, lit.load("photos"))
    for name, parameter in network.parameters.items():
        assert np.array_equal(parameter[: SMALL.seeds], parameter[SMALL.seeds :]), name


@pytest.mark.parametrize("mode", MODES)
def test_picked_replicas_answer_as_they_did(mode):
    data, x, _ = lit.split(lit.load("photos"), SMALL)
    network = lit.build("batch", SMALL, data)
    lit.train(network, data, "batch", SMALL)
    network = lit.in_mode(mode, network, data, "batch", SMALL)
    picked = lit.pick(1, network, "batch", SMALL, data)
    batch = np.broadcast_to(x[:16], (4, 16, *x.shape[1:]))
    expected = network(batch)[2:]
    np.testing.assert_allclose(picked(batch[2:]), expected, rtol=1e-5, atol=1e-5)
    assert picked.training == (mode == "train")


def test_recalibration_averages_all_mini_batches_alike():
    data = lit.load("photos")
    network = lit.in_mode("recalibrated", lit.build("batch", SMALL, data), data, "constant", SMALL)
    norm = network[2]
    assert norm.running.count == lit.RECALIBRATION
    maps = network[1](network[0](np.broadcast_to(data.x_train[None, :2000], (4, 2000, 1, 12, 12))))
    np.testing.assert_allclose(norm.running.mean, maps.mean(axis=(1, 3, 4)), atol=0.3)


# ------------------------------------------------------------------ the judge


def costs(none, batch):
    """A result in which varying light costs the two arms so much accuracy in either mode."""
    test = {}
    for arm, cost in (("none", none), ("batch", batch)):
        for mode in MODES:
            test[arm, "constant", mode, "constant"] = np.full(len(cost), 0.9)
            for light in LIGHTS[1:]:
                test[arm, "batch", mode, light] = 0.9 - np.asarray(cost)
    return Result(Config(), {}, test)


def test_modes_are_judged_each(result):
    train, evaluation = judge(result, "train"), judge(result, "eval")
    assert judge_modes(result) == {"train mode": train, "eval mode": evaluation}
    assert train.effect != evaluation.effect


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match="k >= 2"):
        judge(costs([0.1], [0.0]), "train")


# ------------------------------------------------------------------ bad configs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "birds"}, "dataset: expected one of .* got 'birds'"),
        ({"activation": "step"}, "activation: expected one of"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum: expected 0, as Adam has its own"),
        ({"arms": ("layer",)}, r"arms: expected some of .* got \('layer',\)"),
        ({"arms": ()}, r"arms: expected some of .* got \(\)"),
        ({"n_test": 65}, "n_test: expected a multiple of batch_size=16, got 65"),
    ],
)
def test_impossible_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_more_images_than_there_are_are_refused():
    with pytest.raises(ValueError, match="n_valid, n_test: expected at most 3984 and 1000"):
        lit.split(lit.load("photos"), replace(SMALL, n_test=1600))
