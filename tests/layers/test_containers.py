import numpy as np
import pytest
import torch
from random_inputs import SEED

from bnlib import layers as L  # noqa: N812


def network(rng):
    return L.Sequential(
        L.Linear(4, 4, rng=rng),
        L.Residual(L.Sequential(L.Tanh(), L.Linear(4, 4, rng=rng, bias=False))),
        L.ReLU(),
    )


def test_sequential_and_residual_equal_torch(agrees, rng):
    def reference(x, **p):
        h = x @ p["0.weight"] + p["0.bias"]
        return torch.relu(h + torch.tanh(h) @ p["1.branch.1.weight"])

    agrees(network(rng), reference, rng.standard_normal((8, 4)))


def test_parameters_are_the_arrays_of_the_layers_under_their_names(rng):
    net = network(rng)
    assert list(net.parameters) == ["0.weight", "0.bias", "1.branch.1.weight"]
    assert list(net.gradients) == list(net.parameters)
    assert net.parameters["1.branch.1.weight"] is net[1].branch[1].parameters["weight"]


def test_parameters_of_a_container_are_read_only(rng):
    net = network(rng)
    with pytest.raises(TypeError, match="does not support item assignment"):
        net.parameters["0.weight"] = np.zeros((4, 4))


def test_mode_reaches_all_layers(rng):
    net = network(rng)
    inner = [net, *net, net[1].branch, *net[1].branch]
    assert net.eval() is net
    assert not any(layer.training for layer in inner)
    assert net.train() is net
    assert all(layer.training for layer in inner)


def test_sequential_is_a_sequence(rng):
    net = network(rng)
    assert len(net) == 3
    assert [type(layer) for layer in net] == [L.Linear, L.Residual, L.ReLU]
    assert net[-1] is list(net)[2]
    assert isinstance(net[:2], L.Sequential)
    assert net[:2][0] is net[0]
    with pytest.raises(IndexError):
        net[3]


def test_empty_sequential_is_the_identity(rng):
    x = rng.standard_normal((2, 3))
    net = L.Sequential()
    np.testing.assert_array_equal(net(x), x)
    np.testing.assert_array_equal(net.backward(x), x)
    assert repr(net) == "Sequential()"


def test_residual_whose_branch_changes_the_shape_is_refused(rng):
    with pytest.raises(ValueError, match=r"the shape \(2, 4\) of x, got \(2, 1\)"):
        L.Residual(L.Linear(4, 1, rng=rng))(np.ones((2, 4)))


@pytest.mark.parametrize("make", [L.Sequential, L.Residual])
def test_what_is_not_a_layer_is_refused(make):
    with pytest.raises(TypeError, match="expected a Layer"):
        make(np.tanh)


def test_a_layer_that_occurs_twice_is_refused(rng):
    layer = L.Linear(4, 4, rng=rng)
    with pytest.raises(ValueError, match="only once"):
        L.Sequential(layer, L.Residual(L.Sequential(layer)))


def test_different_numbers_of_seeds_are_refused(rng):
    with pytest.raises(ValueError, match="same number of seeds"):
        L.Sequential(L.Linear(4, 4, rng=[rng, rng]), L.ReLU(), L.BatchNorm(4))


def test_seeds_are_those_of_the_layers(rng):
    assert L.Sequential(L.ReLU(), L.Dropout(0.5, rng=[rng, rng])).seeds == 2
    assert L.Sequential(L.ReLU(), L.Linear(2, 2, rng=rng)).seeds is None
    assert L.Residual(L.BatchNorm(3, seeds=4)).seeds == 4


def test_repr_shows_the_nesting(rng):
    assert repr(network(rng)) == (
        "Sequential(\n"
        "  (0): Linear(4, 4)\n"
        "  (1): Residual(\n"
        "    (branch): Sequential(\n"
        "      (0): Tanh()\n"
        "      (1): Linear(4, 4, bias=False)\n"
        "    )\n"
        "  )\n"
        "  (2): ReLU()\n"
        ")"
    )


def perceptron(rng, k, norm):
    return L.Sequential(
        L.Linear(6, 8, rng=rng, bias=norm is None),  # a bias before batch norm is dead
        *([norm(8, k)] if norm else []),
        L.Sigmoid(),
        L.Dropout(0.2, rng=rng),
        L.Linear(8, 3, rng=rng),
    )


def convolutional(rng, k, norm):
    return L.Sequential(
        L.Conv2d(1, 4, 3, rng=rng, padding=1, bias=norm is None),
        *([norm(4, k)] if norm else []),
        L.ReLU(),
        L.MaxPool2d(2),
        L.Residual(L.Sequential(L.Conv2d(4, 4, 3, rng=rng, padding=1, groups=2), L.Tanh())),
        L.AvgPool2d(2, 1),
        L.Flatten(),
        L.Linear(16, 3, rng=rng),
    )


DENSE = {
    "none": None,
    "batch": lambda d, k: L.BatchNorm(d, seeds=k),
    "layer": lambda d, k: L.LayerNorm(d, seeds=k),
    "rms": lambda d, k: L.RMSNorm(d, seeds=k),
}
SPATIAL = {
    "none": None,
    "batch": lambda c, k: L.BatchNorm(c, seeds=k),
    "batch-bare": lambda c, k: L.BatchNorm(c, affine=False, momentum=None, seeds=k),
    "group": lambda c, k: L.GroupNorm(2, c, seeds=k),
    "instance": lambda c, k: L.InstanceNorm(c, seeds=k),
}
TRAININGS = [
    *((perceptron, norm, (8, 6)) for norm in DENSE.items()),
    *((convolutional, norm, (5, 1, 6, 6)) for norm in SPATIAL.items()),
]
OPTIMIZERS = {
    "sgd": lambda net: L.SGD(net, 0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda net: L.Adam(net, 0.01),
}


def train(net, optimizer, xs, labels):
    losses = []
    for x, label in zip(xs, labels, strict=True):
        loss, dlogits = L.softmax_cross_entropy(net(x), label)
        net.backward(dlogits)
        optimizer.step()
        losses.append(loss)
    return np.array(losses)


@pytest.mark.parametrize(
    ("build", "norm", "shape"), TRAININGS, ids=[f"{b.__name__}-{n[0]}" for b, n, _ in TRAININGS]
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_k_seeds_at_once_equals_training_k_networks(rng, build, norm, shape, optimizer):
    k, steps = 3, 6
    xs = rng.standard_normal((steps, k, *shape))
    labels = rng.integers(0, 3, (steps, k, shape[0]))
    ensemble = build([np.random.default_rng([5 + SEED, i]) for i in range(k)], k, norm[1])
    start = {name: p.copy() for name, p in ensemble.parameters.items()}
    losses = train(ensemble, OPTIMIZERS[optimizer](ensemble), xs, labels)
    evaluated = ensemble.eval()(xs[0])
    for i in range(k):
        net = build(np.random.default_rng([5 + SEED, i]), None, norm[1])
        for name, p in net.parameters.items():
            np.testing.assert_array_equal(start[name][i], p, err_msg=name)
        alone = train(net, OPTIMIZERS[optimizer](net), xs[:, i], labels[:, i])
        np.testing.assert_allclose(losses[:, i], alone, rtol=1e-9)
        for name, p in net.parameters.items():
            assert not np.array_equal(p, start[name][i]), name
            np.testing.assert_allclose(
                ensemble.parameters[name][i], p, rtol=1e-7, atol=1e-9, err_msg=name
            )
        np.testing.assert_allclose(evaluated[i], net.eval()(xs[0, i]), rtol=1e-7, atol=1e-9)


def test_a_network_learns(rng):
    x = rng.standard_normal((2, 200, 6))
    labels = np.where(x[..., 0] > 0, 1, np.where(x[..., 1] > 0, 2, 0))
    net = perceptron([np.random.default_rng(i + SEED) for i in range(2)], 2, DENSE["batch"])
    train(net, L.Adam(net, 0.05), [x] * 100, [labels] * 100)
    accuracy = (net.eval()(x).argmax(axis=-1) == labels).mean(axis=-1)
    assert (accuracy > 0.9).all()
