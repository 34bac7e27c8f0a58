import numpy as np
import pytest
import torch

from bnlib.experiments.engine import regularizers, training
from bnlib.experiments.engine.networks import Config
from bnlib.experiments.engine.probe_layers import AddPopulation, DropPopulation, GhostBatchNorm
from bnlib.functional import numerical_gradient, relative_error
from bnlib.layers import BatchNorm, Dropout, Linear, ReLU, Sequential


def ghost(size, rng, k=2, d=3):
    layer = GhostBatchNorm(d, size, seeds=k)
    layer.parameters["gamma"][...] = rng.uniform(0.5, 2, (k, d))
    layer.parameters["beta"][...] = rng.standard_normal((k, d))
    return layer


def test_each_part_is_normalized_by_itself(rng):
    layer, x = ghost(4, rng), rng.normal(2, 3, (2, 12, 3))
    y = layer(x)
    for seed in range(2):
        gamma, beta = (torch.tensor(layer.parameters[n][seed]) for n in ("gamma", "beta"))
        for part in range(3):
            rows = slice(part, None, 3)
            expected = torch.nn.functional.batch_norm(
                torch.tensor(x[seed, rows]), None, None, gamma, beta, training=True
            )
            np.testing.assert_allclose(y[seed, rows], expected)


def test_gradients_agree_with_central_differences(rng):
    layer, x, dy = ghost(2, rng), *rng.normal(2, 3, (2, 2, 6, 3))
    layer(x)
    dx = layer.backward(dy)
    assert relative_error(dx, numerical_gradient(layer, x, dy)) < 1e-6
    for name in ("gamma", "beta"):
        parameter, gradient = layer.parameters[name], layer.gradients[name]

        def output(value, parameter=parameter):
            old = parameter.copy()
            parameter[...] = value
            y = layer(x)
            parameter[...] = old
            return y

        numeric = numerical_gradient(output, parameter.copy(), dy)
        assert relative_error(gradient, numeric) < 1e-7


def test_one_part_is_batch_norm(rng):
    x = rng.normal(2, 3, (2, 8, 3))
    whole, plain = GhostBatchNorm(3, 8, seeds=2), BatchNorm(3, seeds=2)
    for _ in range(2):
        np.testing.assert_allclose(whole(x), plain(x))
    np.testing.assert_allclose(whole.running.var, plain.running.var)
    np.testing.assert_allclose(whole.eval()(x), plain.eval()(x))
    dy = rng.standard_normal(x.shape)
    np.testing.assert_allclose(whole.backward(dy), plain.backward(dy))


def test_running_statistics_are_those_of_the_parts(rng):
    layer, x = ghost(4, rng), rng.normal(2, 3, (2, 12, 3))
    layer(x)
    parts = x.reshape(2, 4, 3, 3)  # (k, size, parts, d)
    np.testing.assert_allclose(layer.running.mean, 0.1 * x.mean(axis=1))
    var = parts.var(axis=1, ddof=1).mean(axis=1)
    np.testing.assert_allclose(layer.running.var, 0.9 + 0.1 * var)


def population_network(population):
    rngs = [np.random.default_rng(i) for i in range(2)]
    inner = [Linear(4, 3, rng=rngs), BatchNorm(3, seeds=2), ReLU(), Linear(3, 2, rng=rngs)]
    network = Sequential(AddPopulation(population), *inner, DropPopulation(len(population)))
    network[2].momentum = 1.0
    return network


def test_population_hardly_depends_on_the_companions(rng):
    network = population_network(rng.standard_normal((2000, 4)))
    x = rng.standard_normal((2, 4, 4))
    changed = x.copy()
    changed[:, 1:] = rng.standard_normal((2, 3, 4))
    np.testing.assert_allclose(network(x)[:, 0], network(changed)[:, 0], atol=0.02)


def test_population_passes_the_gradient_through_the_statistics(rng):
    network = population_network(rng.standard_normal((5, 4)))
    x, dy = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 2))
    network(x)
    dx = network.backward(dy)
    gradient = network.gradients["1.weight"]
    weight = network.parameters["1.weight"]

    def output(value):
        old = weight.copy()
        weight[...] = value
        y = network(x)
        weight[...] = old
        return y

    assert relative_error(gradient, numerical_gradient(output, weight.copy(), dy)) < 1e-5
    assert relative_error(dx, numerical_gradient(network, x, dy)) < 1e-5


def test_population_is_gone_in_eval_mode(rng):
    network = population_network(rng.standard_normal((50, 4)))
    x = rng.standard_normal((2, 3, 4))
    network(x)
    network.eval()
    np.testing.assert_allclose(network(x)[:, :1], network(x[:, :1]))
    np.testing.assert_allclose(network.backward(np.ones((2, 1, 2))).shape, (2, 1, 4))


# ------------------------------------------------------------------ networks and curves


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
    optimizer = regularizers.decay_gamma(config, network, 0.1)
    before = {name: value.copy() for name, value in network.parameters.items()}
    optimizer.step()  # gradients are 0
    for name, value in network.parameters.items():
        factor = 0.95 if name.endswith("gamma") else 1
        np.testing.assert_allclose(value, factor * before[name])
