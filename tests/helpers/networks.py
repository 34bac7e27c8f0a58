"""Networks that the instruments are tested on, each with a torch twin."""

import numpy as np
import torch
from random_inputs import SEED

from bnlib.layers import BatchNorm, Dropout, Linear, ReLU, Sequential, Tanh


def build(seeds=None, *, norm=True, dropout=False, activation=Tanh, dtype=np.float64):
    """Linear, norm, activation; twice; Linear. Random gamma and beta, one update of the averages.

    Weights of layer 0, 3 and 6 with norm, else 0, 2 and 4.
    """
    rngs = [np.random.default_rng([3 + SEED, i]) for i in range(seeds or 1)]
    rng = rngs if seeds else rngs[0]

    def block(d_in, d_out):
        layers = [Linear(d_in, d_out, rng=rng, dtype=dtype)]
        layers += [BatchNorm(d_out, seeds=seeds, dtype=dtype)] * norm
        return [*layers, activation(), *[Dropout(0.3, rng=rng)] * dropout]

    network = Sequential(*block(4, 5), *block(5, 3), Linear(3, 3, rng=rng, dtype=dtype))
    for i, (name, p) in enumerate(network.parameters.items()):
        if not name.endswith("weight"):
            p[...] = np.random.default_rng(i + SEED).normal(0.5, 0.5, p.shape)
    network(batch(seeds, dtype)[0] + dtype(1))
    return network


def batch(seeds=None, dtype=np.float64):
    """Eight examples of four features, and labels of three classes; the seeds differ."""
    rng = np.random.default_rng(8 + SEED)
    shape = (8,) if seeds is None else (seeds, 8)
    return rng.standard_normal((*shape, 4)).astype(dtype), rng.integers(3, size=shape)


class Twin:
    """One seed of a network of `build`, as a torch function of a list of parameters."""

    def __init__(self, network, seed=None):
        self.kinds = [(type(layer), len(layer.parameters)) for layer in network]
        self.numbers = [int(name.split(".")[0]) for name in network.parameters]
        self.parameters = [
            torch.tensor(p if seed is None else p[seed], requires_grad=True)
            for p in network.parameters.values()
        ]

    def loss(self, parameters, x, labels):
        left, h = list(parameters), torch.tensor(x)
        for kind, count in self.kinds:
            own, left = left[:count], left[count:]
            if kind is Linear:
                h = h @ own[0] + own[1]
            elif kind is BatchNorm:
                h = torch.nn.functional.batch_norm(h, None, None, *own, training=True)
            else:
                h = {ReLU: torch.relu, Tanh: torch.tanh}[kind](h)
        return torch.nn.functional.cross_entropy(h, torch.tensor(labels))

    def gradients(self, parameters, x, labels):
        return torch.autograd.grad(self.loss(parameters, x, labels), parameters)


def each_seed(seeds):
    """Index of each seed: of an array with a seed axis, or of one without."""
    return [()] if seeds is None else range(seeds)
