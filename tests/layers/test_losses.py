import numpy as np
import pytest
import torch

from bnlib.functional import numerical_gradient
from bnlib.layers import mean_squared_error, softmax_cross_entropy


@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("scale", [1, 100])
def test_cross_entropy_equals_torch(rng, m, scale):
    logits, labels = scale * rng.standard_normal((m, 5)), rng.integers(0, 5, m)
    loss, dlogits = softmax_cross_entropy(logits, labels)
    leaf = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(leaf, torch.tensor(labels))
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(dlogits, leaf.grad.numpy(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("m", [2, 3, 8])
def test_mean_squared_error_equals_torch(rng, m):
    prediction, target = rng.standard_normal((2, m, 4))
    loss, dprediction = mean_squared_error(prediction, target)
    leaf = torch.tensor(prediction, requires_grad=True)
    expected = torch.nn.functional.mse_loss(leaf, torch.tensor(target))
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(dprediction, leaf.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("loss", [softmax_cross_entropy, mean_squared_error])
def test_gradient_equals_central_differences(rng, loss):
    x = rng.standard_normal((3, 4))
    target = rng.integers(0, 4, 3) if loss is softmax_cross_entropy else np.zeros((3, 4))
    expected = numerical_gradient(lambda x: np.array(loss(x, target)[0]), x, np.array(1.0))
    np.testing.assert_allclose(loss(x, target)[1], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("loss", [softmax_cross_entropy, mean_squared_error])
def test_each_seed_has_its_own_loss_and_gradient(rng, loss, shared):
    k, m, d = 3, 5, 4
    x = rng.standard_normal((k, m, d))
    targets = (
        rng.integers(0, d, (k, m)) if loss is softmax_cross_entropy else rng.normal(size=x.shape)
    )
    values, gradients = loss(x, targets[0] if shared else targets)
    assert values.shape == (k,)
    for i in range(k):
        value, gradient = loss(x[i], targets[0 if shared else i])
        np.testing.assert_allclose(values[i], value, rtol=1e-14)
        np.testing.assert_allclose(gradients[i], gradient, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_huge_logits_is_finite(dtype):
    logits = np.array([[1e30, 0.0], [0.0, -1e30]], dtype)
    loss, dlogits = softmax_cross_entropy(logits, np.array([1, 0]))
    np.testing.assert_allclose(loss, 5e29, rtol=1e-6)
    np.testing.assert_array_equal(dlogits, [[0.5, -0.5], [0, 0]])


@pytest.mark.parametrize("loss", [softmax_cross_entropy, mean_squared_error])
def test_float32_stays_float32_and_inputs_are_not_modified(rng, loss):
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    target = rng.integers(0, 4, 3) if loss is softmax_cross_entropy else np.zeros((3, 4))
    x.flags.writeable = target.flags.writeable = False
    value, gradient = loss(x, target)
    assert value.dtype == gradient.dtype == np.float32


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (np.ones((3, 2)), [0, 1], ValueError, r"labels: expected shape \(3,\) .* got \(2,\)"),
        (np.ones((2, 3, 2)), np.zeros((3, 2), int), ValueError, r"\(2, 3\) .* got \(3, 2\)"),
        (np.ones((2, 2)), [0, 2], ValueError, "labels: expected numbers of 0 to 1, got 0 to 2"),
        (np.ones((2, 2)), [-1, 0], ValueError, "labels: expected numbers of 0 to 1, got -1 to 0"),
        (np.ones((2, 2)), [0.0, 1.0], TypeError, "labels: expected integers, got dtype float64"),
        (np.ones((2, 2), int), [0, 1], TypeError, "logits: expected a floating-point array"),
        (np.ones(2), [0, 1], ValueError, r"logits: expected shape \(..., m, c\)"),
        (np.ones((0, 2)), np.zeros(0, int), ValueError, r"at least one example, got \(0, 2\)"),
    ],
)
def test_cross_entropy_refuses_bad_input(logits, labels, error, message):
    with pytest.raises(error, match=message):
        softmax_cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("prediction", "target", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 1)), ValueError, r"target: expected shape .* got \(2, 1\)"),
        (np.ones((2, 3)), 1.0, ValueError, r"target: expected shape .* got \(\)"),
        (np.ones((2, 3), int), np.ones((2, 3)), TypeError, "prediction: expected a floating"),
        (np.ones((2, 0)), np.ones((2, 0)), ValueError, "at least one example"),
    ],
)
def test_mean_squared_error_refuses_bad_input(prediction, target, error, message):
    with pytest.raises(error, match=message):
        mean_squared_error(prediction, target)
