import numpy as np

from bnlib.experiments.engine.probe_layers import AddPopulation, DropPopulation
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
