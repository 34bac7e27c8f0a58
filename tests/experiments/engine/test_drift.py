import copy
import dataclasses

import numpy as np
import pytest
from scipy import stats

from bnlib.experiments.engine import drift, networks, training
from bnlib.layers import SGD, BatchNorm, Linear, Sequential, softmax_cross_entropy
from bnlib.measure import covariate_shift

SMALL = networks.Config(depth=3, width=12, batch_size=32, steps=2, seeds=3, lr=(0.001, 0.01))


def record(config, **recorders):
    return training.train(config, recorders).records


def state_after(config):
    """Return what a recorder saw last."""
    states = []

    def keep(state):
        states.append(dataclasses.replace(state, network=copy.deepcopy(state.network)))
        return state.loss

    training.train(config, {"keep": keep})
    return states[-1]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_recorders_leave_the_training_alone(norm):
    config = dataclasses.replace(SMALL, norm=norm)
    recorders = {
        name: getattr(drift, f"record_{name}")
        for name in ("moments", "distance", "gradient", "curvature")
    }
    np.testing.assert_array_equal(
        training.train(config, recorders).loss, training.train(config).loss
    )
    statistics = [
        [layer.running.mean for layer in state_after(config).network if hasattr(layer, "running")]
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*statistics)


def test_measured_layers_and_their_inputs():
    network = networks.build(dataclasses.replace(SMALL, norm="batch"))
    assert drift.measured_layers(network) == (6, 9)  # of linear layers 0, 3, 6, 9
    assert [drift.before_activation(network, i) for i in (6, 9)] == [4, 7]  # batch norms
    linear = Sequential(*(network[i] for i in (0, 3, 6, 9)))
    assert [drift.before_activation(linear, i) for i in (2, 3)] == [1, 2]


def test_moments_after_batch_norm_are_beta_and_gamma():
    """The shift of the moments is that of the parameters, whatever the other layers do."""
    config = dataclasses.replace(SMALL, norm="batch", lr=0.3)
    parameters = [f"{layer}.{name}" for layer in (4, 7) for name in ("beta", "gamma")]
    records = record(
        config,
        moments=drift.record_moments,
        own=lambda s: np.stack([s.network.parameters[n] for n in parameters], axis=1),
    )
    own = records["own"].reshape(records["moments"].shape)
    np.testing.assert_allclose(records["moments"], np.abs(own) * np.sign(own), atol=2e-3)
    moved = drift.moment_drift(records["moments"])
    np.testing.assert_allclose(moved, drift.moment_drift(own), rtol=0.1)


def test_distance_agrees_with_scipy():
    state = state_after(SMALL)
    network, replica = state.network, 4
    moved = copy.deepcopy(network)
    networks.build_optimizer(state.config, moved).step()
    x = np.broadcast_to(state.data.x_train[: drift.PROBE], (6, drift.PROBE, 64))
    before, after = (net[:5](x)[replica] for net in (network, moved))  # the last hidden layer
    distances = [stats.wasserstein_distance(a, b) for a, b in zip(before.T, after.T, strict=True)]
    expected = np.mean(distances) / np.sqrt(before.var(axis=0).mean())
    np.testing.assert_allclose(drift.record_distance(state)[replica, 1], expected)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_curvature_predicts_the_change_of_the_gradient_to_first_order(norm):
    config = dataclasses.replace(SMALL, norm=norm, lr=1e-5, activation="tanh")
    records = record(config, gradient=drift.record_gradient, curvature=drift.record_curvature)
    predicted = 1e-5 * records["curvature"]
    np.testing.assert_allclose(records["gradient"][..., 0], predicted, rtol=1e-2)


def test_scale_of_the_weights_acts_as_the_learning_rate():
    """cos(G, G') at weights a W and rate a^2 eta is that at W and eta."""
    rng = np.random.default_rng(0)
    layers = [
        layer
        for _ in range(3)
        for layer in (Linear(6, 6, rng=rng), BatchNorm(6, affine=False, eps=0.0))
    ]
    network = Sequential(*layers, Linear(6, 3, rng=rng))
    x, labels = rng.standard_normal((20, 6)), rng.integers(3, size=20)
    measured = []
    for a in (1.0, 5.0):
        scaled = copy.deepcopy(network)
        for layer in list(scaled)[:-1:2]:
            layer.parameters["weight"] *= a
        optimizer = SGD(scaled, 0.5 * a**2)
        measured.append(covariate_shift(scaled, optimizer, softmax_cross_entropy, x, labels))
    one, other = measured
    assert (one.cosine[1:] < 0.999).all()
    np.testing.assert_allclose(other.cosine, one.cosine)
    np.testing.assert_allclose(other.difference[:-1] * 5.0, one.difference[:-1])


def test_gap_over_a_curve():
    curve = np.array([2.0, 0.0, np.nan]), np.array([4.0, 0.0, np.nan])  # y = 2 x on [0, 2]
    assert drift.mean_gap((np.array([0.5, 1.0, 9.0]), np.array([1.0, 2.5, 0.0])), curve) == 0.25
    assert np.isnan(drift.mean_gap((np.array([9.0]), np.array([0.0])), curve))
