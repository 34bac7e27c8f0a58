"""Training 16 seeds of a 64-100-100-100-10 batch-norm network, mini-batch 60, float32.

Ours: one network with a leading seed axis. Peer: a plain PyTorch loop over the seeds. Both draw
their mini-batches, take the step, and read off the loss.
"""

import itertools
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.timing import compare
from bnlib import layers

SEEDS, BATCH_SIZE, EXAMPLES = 16, 60, 1440
SIZES, CLASSES = (64, 100, 100, 100), 10
ACTIVATIONS = {"sigmoid": (layers.Sigmoid, nn.Sigmoid), "ReLU": (layers.ReLU, nn.ReLU)}
OPTIMIZERS = {"SGD": (layers.SGD, torch.optim.SGD), "Adam": (layers.Adam, torch.optim.Adam)}


def data() -> tuple[np.ndarray, np.ndarray]:
    """Draw examples and labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((EXAMPLES, SIZES[0]), dtype=np.float32)
    return x, rng.integers(0, CLASSES, EXAMPLES)


def ours(activation, optimizer):
    """Return a function that takes one step with all seeds."""
    x, labels = data()
    rngs = [np.random.default_rng(seed) for seed in range(SEEDS)]
    options = {"rng": rngs, "dtype": np.float32}
    hidden = [
        (
            layers.Linear(d_in, d_out, bias=False, **options),
            layers.BatchNorm(d_out, seeds=SEEDS, dtype=np.float32),
            activation(),
        )
        for d_in, d_out in itertools.pairwise(SIZES)
    ]
    last = layers.Linear(SIZES[-1], CLASSES, **options)
    network = layers.Sequential(*itertools.chain(*hidden), last)
    optimize = optimizer(network, 0.01)

    def step():
        batch = np.stack([rng.integers(0, EXAMPLES, BATCH_SIZE) for rng in rngs])
        loss, dlogits = layers.softmax_cross_entropy(network(x[batch]), labels[batch])
        network.backward(dlogits, input_gradient=False)
        optimize.step()
        return loss

    return step


def peer(activation, optimizer):
    """Return a function that takes one step with each of the seeds in turn."""
    torch.set_num_threads(1)
    x, labels = (torch.from_numpy(a) for a in data())
    runs = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        hidden = [
            (nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), activation())
            for d_in, d_out in itertools.pairwise(SIZES)
        ]
        network = nn.Sequential(*itertools.chain(*hidden), nn.Linear(SIZES[-1], CLASSES))
        runs.append((network, optimizer(network.parameters(), lr=0.01)))

    def step():
        losses = []
        for network, optimize in runs:
            batch = torch.randint(0, EXAMPLES, (BATCH_SIZE,))
            loss = nn.functional.cross_entropy(network(x[batch]), labels[batch])
            optimize.zero_grad()
            loss.backward()
            optimize.step()
            losses.append(loss.item())
        return losses

    return step


def main() -> None:
    """Print the table."""
    print(f"{'activation':12} {'optimizer':10} {'PyTorch loop / ours, per step and seed':>40}")
    for activation, optimizer in itertools.product(ACTIVATIONS, OPTIMIZERS):
        (our_layer, their_layer), (our_optimizer, their_optimizer) = (
            ACTIVATIONS[activation],
            OPTIMIZERS[optimizer],
        )
        seconds = compare(
            {
                "ours": partial(ours, our_layer, our_optimizer),
                "peer": partial(peer, their_layer, their_optimizer),
            },
            rounds=30,
        )
        print(
            f"{activation:12} {optimizer:10} {seconds['peer'] / seconds['ours']:40.2f}", flush=True
        )


if __name__ == "__main__":
    main()
