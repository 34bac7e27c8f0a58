import numpy as np
import pytest
import torch
from networks import Twin, batch, build, each_seed
from random_inputs import SEED

from bnlib.layers import Linear, ReLU, Sequential, mean_squared_error, softmax_cross_entropy
from bnlib.measure import gradient_path

STEPS = np.array([0.1, 0.5, 2.0])


def quadratic(rng, seeds=None):
    """Least squares, L = |x w - target|^2 / 6."""
    rngs = [np.random.default_rng(i + SEED) for i in range(seeds)] if seeds else rng
    network = Linear(3, 1, rng=rngs, bias=False)
    shape = (6,) if seeds is None else (seeds, 6)
    x, target = rng.standard_normal((*shape, 3)), rng.standard_normal((*shape, 1))
    return network, x, target


def test_quadratic_is_exact(rng, seeds):
    network, x, target = quadratic(rng, seeds)
    path = gradient_path(network, mean_squared_error, x, target, STEPS)
    for i in each_seed(seeds):
        w, hessian = network.parameters["weight"][i], 2 * x[i].T @ x[i] / 6
        g = 2 * x[i].T @ (x[i] @ w - target[i]) / 6
        losses = [np.square(x[i] @ (w - a * g) - target[i]).mean() for a in STEPS]
        at = (slice(None), *([] if i == () else [i]))
        np.testing.assert_allclose(path.start[i], np.square(x[i] @ w - target[i]).mean())
        np.testing.assert_allclose(path.loss[at], losses)
        np.testing.assert_allclose(path.distance[at], STEPS * np.linalg.norm(g))
        np.testing.assert_allclose(path.gradient_change[at], STEPS * np.linalg.norm(hessian @ g))
        np.testing.assert_allclose(
            path.smoothness[i], np.linalg.norm(hessian @ g) / np.linalg.norm(g)
        )
        np.testing.assert_allclose(path.loss_range[i], max(losses) - min(losses))
        assert path.smoothness[i] <= np.linalg.eigvalsh(hessian)[-1] * (1 + 1e-9)


def test_network_equals_torch(seeds):
    network, (x, labels) = build(seeds), batch(seeds)
    path = gradient_path(network, softmax_cross_entropy, x, labels, STEPS)
    ratios = path.gradient_change / path.distance
    np.testing.assert_array_equal(path.smoothness, ratios.max(axis=0))
    for i in each_seed(seeds):
        twin = Twin(network, None if i == () else i)
        g = twin.gradients(twin.parameters, x[i], labels[i])
        for n, a in enumerate(STEPS):
            there = [
                (p - a * q).detach().requires_grad_()
                for p, q in zip(twin.parameters, g, strict=True)
            ]
            moved = twin.gradients(there, x[i], labels[i])
            change = torch.cat([(p - q).ravel() for p, q in zip(g, moved, strict=True)]).norm()
            np.testing.assert_allclose(path.gradient_change[n][i], change.item(), rtol=1e-8)
            loss = twin.loss(there, x[i], labels[i]).item()
            np.testing.assert_allclose(path.loss[n][i], loss, rtol=1e-10)


def test_smoothness_is_the_maximum_where_the_curvature_varies(rng):
    network = Linear(1, 1, rng=rng, init=lambda *_: np.ones((1, 1)), bias=False)

    def quartic(output, target):  # L = y^4, g = 4 at y = 1
        return np.mean(output**4), 4 * output**3

    path = gradient_path(network, quartic, np.ones((1, 1)), None, [0.25, 0.5, 0.125])
    # y = 0, -1, 0.5: gradient 0, -4, 0.5
    np.testing.assert_allclose(path.loss, [0, 1, 0.0625])
    np.testing.assert_allclose(path.gradient_change, [4, 8, 3.5])
    np.testing.assert_allclose(path.distance, [1, 2, 0.5])
    assert path.smoothness == pytest.approx(7)
    assert path.loss_range == pytest.approx(1)


def test_each_seed_has_its_own_steps(rng):
    network, x, target = quadratic(rng, 2)
    own = np.stack([STEPS, 3 * STEPS], axis=1)
    path = gradient_path(network, mean_squared_error, x, target, own)
    first, second = (
        gradient_path(network, mean_squared_error, x, target, steps) for steps in own.T
    )
    np.testing.assert_array_equal(path.loss[:, 0], first.loss[:, 0])
    np.testing.assert_array_equal(path.loss[:, 1], second.loss[:, 1])


def test_network_stays_as_it_was(seeds, unchanged):
    network, (x, labels) = build(seeds, dropout=True), batch(seeds)
    with unchanged(network, x, labels):
        gradient_path(network, softmax_cross_entropy, x, labels, STEPS)


def test_dropout_masks_are_the_same_along_the_path(seeds):
    network, (x, labels) = build(seeds, dropout=True), batch(seeds)
    path = gradient_path(network, softmax_cross_entropy, x, labels, [1e-7])
    assert (path.gradient_change < 1e-4).all()
    np.testing.assert_allclose(path.loss[0], path.start, atol=1e-5)


def test_zero_gradient_has_no_smoothness():
    network, (x, _) = build(), batch()
    path = gradient_path(network, lambda y, _: (np.float64(1.0), np.zeros_like(y)), x, None, STEPS)
    assert np.isnan(path.smoothness)
    assert path.loss_range == 0


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], r"expected shape \(n,\) with n > 0, got \(0,\)"),
        ([[0.1]], r"expected shape \(n,\) with n > 0, got \(1, 1\)"),
        (0.1, r"got \(\)"),
        ([0.1, 0.0], "expected positive, finite numbers"),
        ([np.nan], "expected positive, finite numbers"),
        ([np.inf], "expected positive, finite numbers"),
    ],
)
def test_steps_are_checked(steps, message):
    with pytest.raises(ValueError, match=f"steps: .*{message}"):
        gradient_path(build(), softmax_cross_entropy, *batch(), steps)


def test_steps_must_fit_the_seeds():
    with pytest.raises(
        ValueError, match=r"expected shape \(n,\) or \(n, 2\) with n > 0, got \(3, 3\)"
    ):
        gradient_path(build(2), softmax_cross_entropy, *batch(2), np.ones((3, 3)))


def test_networks_are_checked():
    with pytest.raises(TypeError, match="network: expected a Layer, got list"):
        gradient_path([], softmax_cross_entropy, *batch(), STEPS)
    with pytest.raises(ValueError, match="network: expected at least one parameter"):
        gradient_path(Sequential(ReLU()), softmax_cross_entropy, *batch(), STEPS)
