import numpy as np
import torch

from bnlib.experiments.engine.probe_layers import (
    AddPopulation,
    DetachedBatchNorm,
    DropPopulation,
)
from bnlib.functional import numerical_gradient, relative_error
from bnlib.layers import BatchNorm, Linear, ReLU, Sequential


def population_network(population):
    rngs = [np.random.default_rng(i) for i in range(2)]
    inner = [Linear(4, 3, rng=rngs), BatchNorm(3, seeds=2), ReLU(), Linear(3, 2, rng=rngs)]
    network = Sequential(AddPopulation(population), *inner, DropPopulation(len(population)))
    network[2].momentum = 1.0
    return network


def test_population_hardly_depends_on_the_companions(rng):
    network = population_network(rng.standard_normal((20_000, 4)))
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


def test_detached_statistics_are_constants_of_the_backward_pass(rng):
    """As torch has it behind `detach`; the parameters have the gradients of batch norm."""
    x, dy = rng.normal(2, 3, (2, 2, 8, 4))
    layer, whole = DetachedBatchNorm(4, seeds=2), BatchNorm(4, seeds=2)
    for each in (layer, whole):
        each.parameters["gamma"][...] = np.linspace(0.5, 2, 8).reshape(2, 4)
    np.testing.assert_array_equal(layer(x), whole(x))
    leaf = torch.tensor(x, requires_grad=True)
    mean, var = leaf.mean(1, keepdim=True).detach(), leaf.var(1, False, keepdim=True).detach()
    y = torch.tensor(layer.parameters["gamma"][:, None]) * (leaf - mean) / torch.sqrt(var + 1e-5)
    (expected,) = torch.autograd.grad(y, leaf, torch.tensor(dy))
    np.testing.assert_allclose(layer.backward(dy), expected)
    assert np.abs(whole.backward(dy) - expected.numpy()).max() > 0.01
    for name, gradient in whole.gradients.items():
        np.testing.assert_array_equal(layer.gradients[name], gradient)
    for each in (layer, whole):
        each.eval()(x)
    np.testing.assert_array_equal(layer.backward(dy), whole.backward(dy))
