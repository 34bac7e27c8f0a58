import copy

import numpy as np
import pytest
from networks import batch, build
from scipy import stats

from bnlib.layers import SGD, ReLU, softmax_cross_entropy
from bnlib.measure import activation_moments, activation_percentiles, capture_outputs


def test_captured_outputs_are_those_of_the_layers(seeds):
    network, (x, _) = build(seeds), batch(seeds)
    expected = copy.deepcopy(network)
    with capture_outputs(network, [1, 3, -1]) as outputs:
        assert outputs == {}
        y = network(x)
    assert list(outputs) == [1, 3, -1]
    np.testing.assert_array_equal(outputs[1], expected[:2](x))
    np.testing.assert_array_equal(outputs[3], expected[2:4](outputs[1]))
    np.testing.assert_array_equal(outputs[-1], y)


def test_capture_follows_training_and_does_not_change_it(seeds):
    network, (x, labels) = build(seeds, dropout=True), batch(seeds)
    other = copy.deepcopy(network)
    seen = []
    with capture_outputs(network, [4]) as outputs:
        for _ in range(3):
            train(network, x, labels)
            seen.append(outputs[4])
    for _ in range(3):
        train(other, x, labels)
    for name, p in network.parameters.items():
        np.testing.assert_array_equal(p, other.parameters[name])
    assert not np.array_equal(seen[0], seen[1])


def train(network, x, labels):
    network.backward(softmax_cross_entropy(network(x), labels)[1])
    SGD(network, 0.1).step()


def test_capture_ends_with_the_block_also_after_an_error(unchanged):
    network, (x, _) = build(), batch()
    with unchanged(network):
        with pytest.raises(ValueError, match="x: expected shape"), capture_outputs(network, [0]):
            network(x[:, :2])
        with capture_outputs(network, [5]) as outputs:
            pass
    network(x)
    assert outputs == {}


def test_a_copy_of_a_captured_network_is_independent(unchanged):
    network, (x, _) = build(), batch()
    with capture_outputs(network, [0]) as outputs:
        network(x)
        replica, kept = copy.deepcopy(network), outputs[0]
        cache = network[0]._cache
        replica(x + 1)
        assert outputs[0] is kept
        assert network[0]._cache is cache


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([9], ValueError, "expected numbers of 7 layers, got 9"),
        ([0, -7], ValueError, "expected distinct layers"),
        ([1.0], TypeError, "expected integers, got 1.0"),
    ],
)
def test_layers_that_do_not_exist_are_refused(layers, error, message):
    with pytest.raises(error, match=message), capture_outputs(build(), layers):
        pass


def test_only_a_sequential_has_layers():
    with pytest.raises(TypeError, match="expected a Sequential"), capture_outputs(ReLU(), [0]):
        pass


def test_moments_equal_those_of_scipy(rng):
    a = rng.gamma(2.0, size=(3, 50, 4)) + 5
    moments = activation_moments(a)
    np.testing.assert_allclose(moments.mean, a.mean(axis=1))
    np.testing.assert_allclose(moments.std, a.std(axis=1))
    np.testing.assert_allclose(moments.skewness, stats.skew(a, axis=1))
    np.testing.assert_allclose(moments.kurtosis, stats.kurtosis(a, axis=1, fisher=False))


def test_moments_by_hand():
    moments = activation_moments(np.array([[1.0], [1.0], [1.0], [5.0]]))
    expected = [2, np.sqrt(3), 2 / np.sqrt(3), 7 / 3]  # z = -1, -1, -1, 3 over sqrt(3)
    np.testing.assert_allclose(np.ravel(moments), expected)


def test_a_constant_unit_has_no_shape():
    moments = activation_moments(np.full((3, 1), 0.1))
    np.testing.assert_array_equal(np.ravel(moments), [0.1, 0, np.nan, np.nan])


def test_images_are_described_by_channel(rng):
    a = rng.standard_normal((2, 5, 3, 4, 4))
    by_channel = a.swapaxes(1, 2).reshape(2, 3, -1)
    for axes in ((-4, -2, -1), (1, 3, 4)):
        moments = activation_moments(a, axes)
        np.testing.assert_allclose(moments.mean, by_channel.mean(axis=-1))
        np.testing.assert_allclose(moments.std, by_channel.std(axis=-1))
        np.testing.assert_allclose(
            activation_percentiles(a, [25, 75], axes), np.quantile(by_channel, [0.25, 0.75], -1)
        )


def test_percentiles_of_a_gaussian_sample():
    quantiles = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    a = 2 * quantiles[:, None] + [0.0, 10.0]
    found = activation_percentiles(a)
    sigma = stats.norm.ppf(0.85)
    np.testing.assert_allclose(found[:, 0], [-2 * sigma, 0, 2 * sigma], atol=1e-3)
    np.testing.assert_allclose(found[:, 1] - found[:, 0], 10)


def test_half_precision_is_described_in_double(rng):
    a = rng.standard_normal((100, 2)).astype(np.float16)
    moments = activation_moments(a)
    np.testing.assert_allclose(moments.std, a.astype(float).std(axis=0), rtol=1e-12)
    assert activation_percentiles(a).dtype == np.float64


@pytest.mark.parametrize("function", [activation_moments, activation_percentiles])
def test_activations_that_are_none_are_refused(function):
    with pytest.raises(TypeError, match="activations: expected float16, float32 or float64"):
        function(np.array([[1]]))
    with pytest.raises(ValueError, match=r"expected at least one value, got shape \(0, 3\)"):
        function(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="axes: 2 is out of range"):
        function(np.zeros((2, 3)), axes=2)


@pytest.mark.parametrize("q", [[-1], [50, 101], 50, [np.nan]])
def test_percentages_are_checked(q):
    with pytest.raises(ValueError, match="q: expected a list of percentages in 0 to 100"):
        activation_percentiles(np.zeros((2, 1)), q)
