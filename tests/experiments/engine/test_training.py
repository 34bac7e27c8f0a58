import dataclasses

import numpy as np
import pytest

from bnlib import layers
from bnlib.experiments.engine import networks
from bnlib.experiments.engine.probe_layers import DetachedBatchNorm
from bnlib.experiments.engine.training import (
    Config,
    build,
    record_test_accuracy,
    record_validation_accuracy,
    train,
)
from bnlib.functional import batch_norm_inference

SMALL = Config(depth=2, width=8, batch_size=16, steps=6, seeds=3)
NORMS = networks.NORMS


def weights(state):
    return np.concatenate(
        [p.reshape(len(p), -1) for n, p in state.network.parameters.items() if "weight" in n], 1
    )


def change(**options):
    return dataclasses.replace(SMALL, **options)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_replicas_together_give_what_each_gives_alone(norm, optimizer):
    config = change(norm=norm, optimizer=optimizer, lr=(0.05, 0.2), weight_decay=0.01)
    record = {"weights": weights, "accuracy": record_test_accuracy}
    together = train(config, record)
    for j, rate in enumerate(config.lr):
        for seed in range(3):
            one = dataclasses.replace(config, lr=rate, seeds=1, first_seed=seed)
            alone = train(one, record)
            replica = j * 3 + seed
            np.testing.assert_allclose(together.loss[replica], alone.loss[0], rtol=1e-9)
            for name in record:
                np.testing.assert_allclose(
                    together.records[name][replica], alone.records[name][0], rtol=1e-7, atol=1e-9
                )


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_two_runs_of_one_config_give_the_same_numbers(norm):
    one, two = (train(change(norm=norm), {"weights": weights}) for _ in range(2))
    np.testing.assert_array_equal(one.loss, two.loss)
    np.testing.assert_array_equal(one.records["weights"], two.records["weights"])


def test_arms_of_a_seed_have_the_same_weights_and_order_and_seeds_do_not():
    record = {"weights": weights, "x": lambda s: s.x, "labels": lambda s: s.labels}
    arms = [train(change(norm=norm, lr=(0.1, 0.3)), record) for norm in NORMS]
    for arm in arms:
        first = arm.by_rate(arm.records["weights"])[:, :, 0]
        np.testing.assert_array_equal(first, arms[0].by_rate(arms[0].records["weights"])[:, :, 0])
        np.testing.assert_array_equal(first[0], first[1])
        for name in ("x", "labels"):
            np.testing.assert_array_equal(arm.records[name], arms[0].records[name])
            by_rate = arm.by_rate(arm.records[name])
            np.testing.assert_array_equal(by_rate[0], by_rate[1])
            assert (by_rate[0, 0] != by_rate[0, 1]).any()
        assert (first[0, 0] != first[0, 1]).any()


def test_training_is_that_of_the_layers_written_out():
    config = change(norm="batch", seeds=1, momentum=0.9, weight_decay=0.01)
    run = train(config, {"x": lambda s: s.x, "labels": lambda s: s.labels})
    rng = np.random.default_rng([networks.WEIGHTS, 0])
    blocks, fan_in = [], 64
    for _ in range(2):
        blocks += [layers.Linear(fan_in, 8, rng=rng, bias=False), layers.BatchNorm(8)]
        blocks.append(layers.ReLU())
        fan_in = 8
    network = layers.Sequential(*blocks, layers.Linear(8, 10, rng=rng))
    optimizer = layers.SGD(network, 0.1, momentum=0.9, weight_decay=0.01)
    for step in range(7):
        x, labels = run.records["x"][0, step], run.records["labels"][0, step].astype(int)
        loss, dlogits = layers.softmax_cross_entropy(network(x), labels)
        np.testing.assert_allclose(run.loss[0, step], loss, rtol=1e-9)
        network.backward(dlogits)
        optimizer.step()


@pytest.mark.parametrize("norm", NORMS)
def test_training_learns(norm):
    config = Config(norm=norm, depth=1, width=32, seeds=2, steps=150, lr=0.5)
    run = train(config, {"accuracy": record_test_accuracy}, every=150)
    assert (run.records["accuracy"][:, 0] < 0.3).all()
    assert (run.records["accuracy"][:, -1] > 0.85).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_replica_that_diverges_leaves_the_others_alone(norm):
    # Weight decay at a huge rate multiplies the weights by -1e3 a step: they overflow for sure.
    config = change(norm=norm, lr=(0.05, 1e5), weight_decay=0.01, steps=150)
    calm = train(dataclasses.replace(config, lr=0.05), {"weights": weights})
    both = train(config, {"weights": weights, "accuracy": record_test_accuracy})
    assert (both.diverged[:3] == -1).all()
    assert (both.diverged[3:] > 0).all()
    np.testing.assert_allclose(both.loss[:3], calm.loss, rtol=1e-9)
    np.testing.assert_allclose(
        both.records["weights"][:3], calm.records["weights"], rtol=1e-7, atol=1e-9
    )
    for replica, step in enumerate(both.diverged[3:], 3):
        for rows in (both.loss, both.records["accuracy"], both.records["weights"][..., 0]):
            assert np.isfinite(rows[replica, :step]).all()
            assert np.isnan(rows[replica, step:]).all()


def test_recorders_meet_finite_parameters_and_gradients_also_after_divergence():
    def finite(state):
        arrays = [*state.network.parameters.values(), *state.network.gradients.values()]
        assert all(np.isfinite(a).all() for a in arrays)
        return np.zeros(state.config.replicas)

    config = change(norm="batch", lr=(0.05, 1e5), weight_decay=0.01, steps=150, seeds=1)
    assert train(config, {"finite": finite}).diverged[1] > 0


def test_running_statistics_of_a_good_replica_do_not_notice_a_bad_one():
    x = np.random.default_rng(0).normal(size=(3, 8, 4))
    bad = x.copy()
    bad[1, 0, 0], bad[2, 0, 0] = np.nan, 1e200  # the variance of the last one overflows
    (good_norm,), (bad_norm,) = (networks.build_norm("batch", 4, 1, 3) for _ in range(2))
    for norm in (good_norm, bad_norm):
        norm(x)
    before = good_norm.running.mean.copy(), good_norm.running.var.copy()
    np.testing.assert_allclose(before[1], 0.9 + 0.1 * x.var(axis=1, ddof=1))
    with np.errstate(all="ignore"):
        good_norm(x)
        bad_norm(bad)
    np.testing.assert_array_equal(bad_norm.running.mean[0], good_norm.running.mean[0])
    np.testing.assert_array_equal(bad_norm.running.var[0], good_norm.running.var[0])
    np.testing.assert_array_equal(bad_norm.running.mean[1:], before[0][1:])
    np.testing.assert_array_equal(bad_norm.running.var[1:], before[1][1:])


def test_accuracy_is_measured_in_eval_mode_and_changes_nothing():
    config = change(norm="batch", seeds=2)
    seen = []

    def by_hand(state):
        first, norm, *rest = state.network
        h = batch_norm_inference(
            first(np.stack([state.data.x_test] * 2)),
            norm.running.mean,
            norm.running.var,
            *norm.parameters.values(),
            axes=1,
        )
        rest = layers.Sequential(*rest).eval()
        right = rest(h).argmax(axis=-1) == state.data.y_test
        state.network.train()
        seen.append(state.network.training)
        return right.mean(axis=-1)

    run = train(config, {"accuracy": record_test_accuracy, "by hand": by_hand})
    np.testing.assert_array_equal(run.records["accuracy"], run.records["by hand"])
    np.testing.assert_array_equal(run.loss, train(config).loss)


def test_records_are_taken_at_the_steps_that_were_asked_for():
    run = train(SMALL, {"step": lambda s: np.full((3, 2), s.step)}, every=4)
    np.testing.assert_array_equal(run.steps, [0, 4])
    np.testing.assert_array_equal(run.records["step"], np.tile([[[0, 0], [4, 4]]], (3, 1, 1)))
    assert run.loss.shape == (3, 7)


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        ("batch", layers.BatchNorm),
        ("center", layers.MeanOnlyBatchNorm),
        ("scale", layers.ScaleOnlyBatchNorm),
        ("detached", DetachedBatchNorm),
        ("tanh", layers.DynamicTanh),
        ("layer", layers.LayerNorm),
        ("group", layers.GroupNorm),
        ("rms", layers.RMSNorm),
    ],
)
def test_network_has_the_parts_of_the_config(norm, kind):
    network = build(change(norm=norm, activation="tanh", lr=(0.1, 0.2)))
    assert [type(layer) for layer in network] == [layers.Linear, kind, layers.Tanh] * 2 + [
        layers.Linear
    ]
    assert network.seeds == 6


@pytest.mark.parametrize(
    ("init", "std"), [("he", (2 / 64) ** 0.5), ("xavier", (2 / 364) ** 0.5), ("normal", 1.0)]
)
def test_weights_have_the_standard_deviation_of_the_init(init, std):
    network = build(change(init=init, init_scale=0.5, width=300, depth=1, seeds=1))
    np.testing.assert_allclose(network.parameters["0.weight"].std(), 0.5 * std, rtol=0.02)


@pytest.mark.parametrize("name", networks.DATASETS)
def test_every_data_set_trains(name):
    run = train(change(dataset=name, steps=1, seeds=1))
    assert np.isfinite(run.loss).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "instance"}, "norm: expected one of .* got 'instance'"),
        ({"dataset": "imagenet"}, "dataset: expected one of .* got 'imagenet'"),
        ({"optimizer": "lion"}, "optimizer: expected one of .* got 'lion'"),
        ({"width": 0}, "width: expected at least 1, got 0"),
        ({"lr": ()}, "lr: expected a number or a tuple"),
        ({"lr": [0.1]}, "lr: expected a number or a tuple"),
        ({"norm": "group", "groups": 3}, "groups: expected a divisor of width=8, got 3"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum: expected 0"),
    ],
)
def test_impossible_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        change(**options)


def test_a_record_without_an_entry_a_replica_is_refused():
    with pytest.raises(ValueError, match=r"record 'mean': expected shape \(3, ...\), got \(\)"):
        train(SMALL, {"mean": lambda s: s.loss.mean()})
    with pytest.raises(ValueError, match="every: expected at least 1, got 0"):
        train(SMALL, every=0)


def test_validation_examples_are_the_training_examples_that_are_left():
    everything, part = networks.load("digits"), networks.load("digits", 1000)
    np.testing.assert_array_equal(np.concatenate([part.x_train, part.x_valid]), everything.x_train)
    np.testing.assert_array_equal(np.concatenate([part.y_train, part.y_valid]), everything.y_train)
    np.testing.assert_array_equal(part.x_test, everything.x_test)
    assert len(part.x_train) == 1000
    assert len(everything.x_valid) == 0
    with pytest.raises(ValueError, match="n_train: expected at most"):
        networks.load("digits", 10**6)


def test_training_sees_the_first_examples_only():
    config = change(n_train=32, steps=8)
    seen = train(config, {"x": lambda s: s.x, "valid": record_validation_accuracy})
    assert len(np.unique(seen.records["x"].reshape(-1, 64), axis=0)) <= 32
    assert (seen.records["valid"] >= 0).all()


def test_single_precision_is_used_throughout_and_gives_nearly_the_same():
    double = train(change(norm="batch"))
    dtypes = set()

    def collect(state):
        arrays = [state.x, state.logits, *state.network.parameters.values()]
        arrays += state.network.gradients.values()
        dtypes.update(str(a.dtype) for a in arrays)
        return state.loss

    single = train(change(norm="batch", dtype="float32"), {"loss": collect})
    assert dtypes == {"float32"}
    np.testing.assert_allclose(single.loss, double.loss, rtol=1e-3)
    assert (single.loss != double.loss).any()


def test_networks_and_optimizers_of_ones_own_can_be_trained():
    config = change(norm="batch", momentum=0.9)
    frozen = {"names": ["1.gamma", "4.gamma"], "lr": 0.0}
    run = train(
        config,
        {"gamma": lambda s: s.network.parameters["1.gamma"], "weights": weights},
        build=lambda c: build(dataclasses.replace(c, activation="tanh")),
        optimizer=lambda c, network: networks.build_optimizer(c, network, [frozen]),
    )
    np.testing.assert_array_equal(run.records["gamma"], 1)
    tanh = train(dataclasses.replace(config, activation="tanh"))
    np.testing.assert_allclose(run.loss[:, 0], tanh.loss[:, 0], rtol=1e-12)
    assert (run.records["weights"][:, -1] != run.records["weights"][:, 0]).any()


def test_data_can_be_given_in_the_place_of_those_of_the_config():
    config = Config(n_train=64, redraw=True, batch_size=16, steps=2, seeds=2, lr=(0.1, 0.2))
    own = train(config)
    given = networks.redraw(config, networks.load("digits"))
    np.testing.assert_array_equal(train(config, data=given).loss, own.loss)
    darker = given._replace(x_train=given.x_train / 2)
    assert (train(config, data=darker).loss != own.loss).all()
