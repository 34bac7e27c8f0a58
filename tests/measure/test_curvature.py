import numpy as np
import pytest
import torch
from networks import Twin, batch, build, each_seed

from bnlib.layers import Linear, mean_squared_error, softmax_cross_entropy
from bnlib.measure import hessian_vector_product, top_hessian_eigenvalue


def torch_hessian(network, seed, x, labels):
    """Hessian of the loss of one seed, (p, p)."""
    twin = Twin(network, None if seed == () else seed)
    sizes, shapes = zip(*((p.numel(), p.shape) for p in twin.parameters), strict=True)

    def loss(flat):
        parts = zip(torch.split(flat, sizes), shapes, strict=True)
        return twin.loss([part.reshape(shape) for part, shape in parts], x[seed], labels[seed])

    flat = torch.cat([p.detach().ravel() for p in twin.parameters])
    return torch.autograd.functional.hessian(loss, flat).numpy()


def random_vector(rng, network):
    return {name: rng.standard_normal(p.shape) for name, p in network.parameters.items()}


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_product_is_exact_for_a_quadratic(rng, scale):
    network = Linear(3, 1, rng=rng, bias=False)
    x, target = rng.standard_normal((6, 3)), rng.standard_normal((6, 1))
    v = scale * rng.standard_normal((3, 1))
    found = hessian_vector_product(network, mean_squared_error, x, target, {"weight": v})
    np.testing.assert_allclose(found["weight"], 2 * x.T @ x @ v / 6, rtol=1e-8)


def test_product_equals_torch(rng, seeds):
    network, (x, labels) = build(seeds), batch(seeds)
    v = random_vector(rng, network)
    found = hessian_vector_product(network, softmax_cross_entropy, x, labels, v)
    assert {n: a.shape for n, a in found.items()} == {n: a.shape for n, a in v.items()}
    for i in each_seed(seeds):
        flat_v, flat = (
            np.concatenate([a[i].ravel() for a in each.values()]) for each in (v, found)
        )
        expected = torch_hessian(network, i, x, labels) @ flat_v
        np.testing.assert_allclose(flat, expected, rtol=1e-6, atol=1e-7)


def test_product_takes_arrays_by_name(rng):
    network, (x, labels) = build(), batch()
    v = random_vector(rng, network)
    found = hessian_vector_product(network, softmax_cross_entropy, x, labels, v)
    turned = dict(reversed(v.items()))
    again = hessian_vector_product(network, softmax_cross_entropy, x, labels, turned)
    for name, a in found.items():
        np.testing.assert_array_equal(a, again[name])


def test_product_with_zero_is_zero(rng):
    network, (x, labels) = build(2), batch(2)
    v = {name: np.stack([a[0], 0 * a[1]]) for name, a in random_vector(rng, network).items()}
    found = hessian_vector_product(network, softmax_cross_entropy, x, labels, v)
    assert all((a[1] == 0).all() for a in found.values())
    assert any((a[0] != 0).any() for a in found.values())


@pytest.mark.parametrize("d", [1, 2, 5])
def test_top_eigenvalue_of_a_quadratic(rng, d):
    network = Linear(d, 1, rng=rng, bias=False)
    x, target = rng.standard_normal((6, d)), rng.standard_normal((6, 1))
    found = top_hessian_eigenvalue(network, mean_squared_error, x, target)
    assert found == pytest.approx(np.linalg.eigvalsh(2 * x.T @ x / 6)[-1], rel=1e-4)
    assert np.shape(found) == ()


@pytest.mark.parametrize("norm", [False, True])
def test_top_eigenvalue_equals_torch(seeds, norm):
    network, (x, labels) = build(seeds, norm=norm), batch(seeds)
    found = top_hessian_eigenvalue(network, softmax_cross_entropy, x, labels)
    expected = [
        np.linalg.eigvalsh(torch_hessian(network, i, x, labels))[-1] for i in each_seed(seeds)
    ]
    np.testing.assert_allclose(found, expected if seeds else expected[0], rtol=1e-4)
    assert np.shape(found) == (() if seeds is None else (seeds,))


def test_top_is_the_largest_by_sign():
    network = Linear(2, 1, rng=np.random.default_rng(0), bias=False)

    def saddle(output, target):  # 0.5 w1^2 - 2 w2^2 with x the identity
        scale = np.array([[1.0], [-4.0]])
        return np.sum(scale * output**2) / 2, scale * output

    found = top_hessian_eigenvalue(network, saddle, np.eye(2), None)
    assert found == pytest.approx(1.0)


def test_two_calls_agree():
    network, (x, labels) = build(), batch()
    first, second = (
        top_hessian_eigenvalue(network, softmax_cross_entropy, x, labels) for _ in range(2)
    )
    assert first == second


def test_network_stays_as_it_was(seeds, rng, unchanged):
    network, (x, labels) = build(seeds, dropout=True), batch(seeds)
    v = random_vector(rng, network)
    with unchanged(network, x, labels, v):
        hessian_vector_product(network, softmax_cross_entropy, x, labels, v)
        top_hessian_eigenvalue(network, softmax_cross_entropy, x, labels)


def test_wrong_arguments_are_refused(rng):
    network, (x, labels) = build(), batch()
    loss, v = softmax_cross_entropy, random_vector(rng, network)
    with pytest.raises(ValueError, match=r"vector: expected arrays of the shapes .*0.weight"):
        hessian_vector_product(network, loss, x, labels, {**v, "0.weight": np.zeros(3)})
    with pytest.raises(ValueError, match="vector: expected arrays"):
        hessian_vector_product(network, loss, x, labels, {**v, "9.weight": np.zeros(3)})
    with pytest.raises(ValueError, match="tol: expected a number >= 0, got -1"):
        top_hessian_eigenvalue(network, loss, x, labels, tol=-1)
    for function, arguments in ((hessian_vector_product, (v,)), (top_hessian_eigenvalue, ())):
        with pytest.raises(ValueError, match="h: expected a finite length > 0, got 0"):
            function(network, loss, x, labels, *arguments, h=0)
        with pytest.raises(TypeError, match="network: expected a Layer, got NoneType"):
            function(None, loss, x, labels, *arguments)
        with pytest.raises(TypeError, match=r"expected float64 parameters, got \['float32'\]"):
            function(build(dtype=np.float32), loss, x, labels, *arguments)
