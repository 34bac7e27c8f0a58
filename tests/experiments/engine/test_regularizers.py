import numpy as np
import pytest

from bnlib.experiments.engine import regularizers, training
from bnlib.experiments.engine.networks import Config
from bnlib.layers import Dropout


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("every", ["BatchNorm", "ReLU", "Dropout", "Linear", "BatchNorm", "ReLU", "Dropout"]),
        ("before", ["Dropout", "BatchNorm", "ReLU", "Linear", "Dropout", "BatchNorm", "ReLU"]),
        ("last", ["BatchNorm", "ReLU", "Linear", "BatchNorm", "ReLU", "Dropout"]),
    ],
)
def test_places_of_dropout(place, expected):
    network = regularizers.build(Config(depth=2, seeds=2, width=4), "batch", 0.5, place)
    names = [type(layer).__name__ for layer in network]
    assert names == ["Linear", *expected, "Linear"]
    assert all(layer.p == 0.5 for layer in network if isinstance(layer, Dropout))


def curves(valid, train=None, test=None):
    def scores(loss):
        return np.repeat(np.asarray(loss, float)[..., None], 3, axis=-1)

    parts = (valid if part is None else part for part in (train, valid, test))
    return regularizers.Curves(0.1, 0.0, np.arange(len(valid[0])), *map(scores, parts))


def test_stopped_reads_each_seed_at_its_least_validation_loss():
    c = curves([[3, 1, 2], [3, 2, 1]], test=[[10, 11, 12], [20, 21, 22]])
    np.testing.assert_array_equal(c.stopped(), [11, 22])
    np.testing.assert_array_equal(c.stopped(part="valid"), [1, 1])


def test_at_loss_interpolates_and_refuses_what_is_not_reached():
    c = curves([[0] * 3] * 2, train=[[3, 2, 1], [3, 2.5, 2.4]], test=[[10, 20, 30], [1, 2, 3]])
    np.testing.assert_array_equal(c.at_loss(1.5), [25, np.nan])


def test_tuning_takes_the_best_rate_and_strength_on_validation_data():
    config = Config(steps=30, seeds=2, lr=(1e-6, 0.1, 1e9), n_train=500, width=16, depth=1)
    arms = []

    def arm(p):
        arms.append(p)
        return {"build": lambda c: regularizers.build(c, "none", p)}

    chosen = regularizers.tuned(config, arm, (0.98, 0.1), tuning_seeds=2, every=30)
    assert (chosen.lr, chosen.strength) == (0.1, 0.1)
    assert arms == [0.98, 0.1, 0.1]
    assert chosen.test.shape == (2, 2, 3)


def test_test_data_decide_nothing(monkeypatch):
    config = Config(steps=60, seeds=2, lr=(1e-6, 0.1), n_train=500, width=16, depth=1)
    seeds = []

    def arm(strength):
        def build(c):
            seeds.append((c.first_seed, c.seeds))
            return regularizers.build(c, "none")

        return {"build": build}

    looked_at = {regularizers.TUNING: set(), 0: set()}
    predict = training.predict

    def watched(state, x):
        parts = [
            p for p in regularizers.PARTS if np.shares_memory(x, getattr(state.data, f"x_{p}"))
        ]
        looked_at[state.config.first_seed].update(parts)
        return predict(state, x)

    monkeypatch.setattr(training, "predict", watched)
    assert regularizers.tuned(config, arm, tuning_seeds=3, every=30).lr == 0.1
    assert seeds == [(regularizers.TUNING, 3), (0, 2)]
    assert looked_at == {regularizers.TUNING: {"valid"}, 0: {"train", "valid", "test"}}


def test_gamma_decays_alone():
    config = Config(depth=1, width=4, seeds=2, lr=0.5)
    network = regularizers.build(config, "batch")
    optimizer = regularizers.decay(config, network, "gamma", 0.1)
    before = {name: value.copy() for name, value in network.parameters.items()}
    optimizer.step()  # gradients are 0
    for name, value in network.parameters.items():
        factor = 0.95 if name.endswith("gamma") else 1
        np.testing.assert_allclose(value, factor * before[name])
