import numpy as np
import pytest
import torch

from bnlib.layers import Flatten, ReLU, Sigmoid, Tanh

REFERENCES = {ReLU: torch.relu, Sigmoid: torch.sigmoid, Tanh: torch.tanh}


@pytest.mark.parametrize("activation", REFERENCES)
@pytest.mark.parametrize("m", [2, 3, 8])
def test_equals_torch(agrees, rng, activation, m):
    agrees(activation(), lambda x: REFERENCES[activation](x), 3 * rng.standard_normal((m, 5)))


def test_relu_has_gradient_zero_at_zero(agrees):
    agrees(ReLU(), lambda x: torch.relu(x), np.array([[0.0, -0.0, 1.0]]))


@pytest.mark.parametrize("activation", [Sigmoid, Tanh])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_inputs_saturate_without_overflow(activation, dtype):
    layer = activation()
    y = layer(np.array([[-1e4, 1e4]], dtype))
    np.testing.assert_array_equal(y, [[0 if activation is Sigmoid else -1, 1]])
    np.testing.assert_array_equal(layer.backward(np.ones((1, 2), dtype)), [[0, 0]])


def test_small_sigmoids_keep_their_relative_accuracy():
    x = np.array([[-40.0, -80.0]])
    np.testing.assert_allclose(Sigmoid()(x), np.exp(x), rtol=1e-14)


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_flatten_joins_the_last_axes(agrees, rng, axes):
    x = rng.standard_normal((2, 3, 4, 5))
    agrees(Flatten(axes), lambda x: torch.flatten(x, 4 - axes), x)


def test_flatten_joins_channels_height_and_width_by_default():
    assert Flatten()(np.ones((7, 2, 3, 4, 5))).shape == (7, 2, 60)


def test_flatten_refuses_too_few_axes():
    with pytest.raises(ValueError, match=r"at least 3 axes, got \(2, 2\)"):
        Flatten()(np.ones((2, 2)))
    with pytest.raises(ValueError, match="axes: expected at least 1"):
        Flatten(0)
