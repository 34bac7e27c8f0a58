"""Training many networks: the engine of the experiments against a plain PyTorch loop over them.

Ours: `bnlib.experiments.engine.training.train`, which trains all seeds and learning rates of a
config at once. Peer: one network after the other, with PyTorch's layers, loss and optimizers. Both
draw their mini-batches, take the step, and keep the loss; each call goes on with the networks of
the last one.
Before that, the peer must compute the engine's losses from the engine's weights on the engine's
mini-batches, in float64.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.timing import compare
from bnlib.experiments.engine import networks, training

STEPS, CHECKED = 10, 3  # of a call that is timed; whose losses are compared
SHALLOW = networks.Config(
    depth=3, width=100, activation="sigmoid", norm="batch", batch_size=60, lr=0.5, dtype="float32"
)
RATES = (0.01, 0.03, 0.1, 0.3)
WIDE_GRID = networks.Config(
    depth=6, width=32, norm="batch", batch_size=32, lr=(*RATES, 1.0, 3.0), dtype="float32"
)
CONFIGS = {
    "covariate shift: 3 x 100, sigmoid": SHALLOW,
    "the same, ReLU": replace(SHALLOW, activation="relu"),
    "the same, Adam": replace(SHALLOW, optimizer="adam", lr=0.001),
    "learning rates: 6 x 32, 6 rates": WIDE_GRID,
    "depth: 16 x 32, 4 rates": replace(WIDE_GRID, depth=16, lr=RATES),
}
ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


class Peer:
    """The networks of a config as a list of PyTorch networks, each with its optimizer."""

    def __init__(self, config: networks.Config) -> None:
        rates, weights = np.repeat(config.rates, config.seeds), networks.build(config).parameters
        self.networks = [_network(config, weights, replica) for replica in range(config.replicas)]
        self.optimizers = [
            _optimizer(config, network, float(rate))
            for network, rate in zip(self.networks, rates, strict=True)
        ]

    def step(self, replica: int, x: torch.Tensor, labels: torch.Tensor) -> float:
        """Train one network on one mini-batch and return the loss before."""
        loss = nn.functional.cross_entropy(self.networks[replica](x), labels)
        self.optimizers[replica].zero_grad()
        loss.backward()
        self.optimizers[replica].step()
        return loss.item()


def ours(config: networks.Config) -> Callable[[], training.Result]:
    """Return a function that trains all networks together."""
    network = networks.build(config)
    config = replace(config, steps=STEPS - 1)  # and one last pass without an update
    return partial(training.train, config, build=lambda _: network)


def peer(config: networks.Config) -> Callable[[], list[list[float]]]:
    """Return a function that trains one network after the other."""
    torch.set_num_threads(1)
    data, runs = networks.load(config.dataset, config.n_train, config.dtype), Peer(config)
    x, labels = torch.tensor(data.x_train), torch.tensor(data.y_train)

    def train() -> list[list[float]]:
        losses = []
        for replica in range(config.replicas):
            batches = (torch.randint(len(x), (config.batch_size,)) for _ in range(STEPS))
            losses.append([runs.step(replica, x[i], labels[i]) for i in batches])
        return losses

    return train


def _network(config: networks.Config, parameters: dict, replica: int) -> nn.Sequential:
    """Build one network with the weights of a replica of ours."""
    if config.norm not in ("none", "batch"):
        raise ValueError(f"norm: expected none or batch, got {config.norm!r}")
    own = [torch.tensor(array[replica]) for array in parameters.values()]  # in the order of layers
    d_in, modules = len(own[0]), []
    for _ in range(config.depth):
        modules.append(nn.Linear(d_in, config.width, bias=config.norm == "none"))
        modules += [nn.BatchNorm1d(config.width)] * (config.norm == "batch")
        modules.append(ACTIVATIONS[config.activation]())
        d_in = config.width
    network = nn.Sequential(*modules, nn.Linear(d_in, len(own[-1]))).to(own[0].dtype)
    with torch.no_grad():
        for theirs, ours in zip(network.parameters(), own, strict=True):
            theirs.copy_(ours.T if ours.ndim == 2 else ours)
    return network


def _optimizer(config: networks.Config, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    options = {"lr": lr, "weight_decay": config.weight_decay}
    if config.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), **options)
    return torch.optim.SGD(network.parameters(), momentum=config.momentum, **options)


def check(config: networks.Config) -> None:
    """Raise AssertionError unless the peer's first losses are ours."""
    config = replace(config, dtype="float64", steps=CHECKED)
    run = training.train(config, {"x": lambda s: s.x, "labels": lambda s: s.labels})
    runs = Peer(config)
    for replica, losses in enumerate(run.loss):
        x, labels = (torch.tensor(run.records[name][replica]) for name in ("x", "labels"))
        theirs = [runs.step(replica, *batch) for batch in zip(x, labels.long(), strict=True)]
        np.testing.assert_allclose(theirs, losses, rtol=1e-6)


def main() -> None:
    """Print the table."""
    print(f"{'network':34} {'networks':>8} {'PyTorch loop / ours, per step and network':>44}")
    for name, config in CONFIGS.items():
        check(config)
        functions = {"ours": partial(ours, config), "peer": partial(peer, config)}
        seconds = compare(functions, rounds=4)
        print(
            f"{name:34} {config.replicas:8} {seconds['peer'] / seconds['ours']:44.2f}", flush=True
        )


if __name__ == "__main__":
    main()
