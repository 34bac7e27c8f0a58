"""Faults of two models that should agree: averages, target networks, processes."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from benchmarks.doctor.case import Case, plant
from benchmarks.doctor.networks import (
    MLP,
    ResNet,
    SequenceNet,
    adam,
    batches,
    build,
    loss_of,
    train,
    trained,
)
from bnlib.nn import convert_sync_batchnorm


@plant("stale-average", ResNet, SequenceNet, MLP)
def weights_of_many_epochs(kind, faulty):
    """Stochastic weight averaging ends without the pass that its running statistics need.

    The average has those of the last model that was averaged.
    Remedy: ``update_bn(loader, averaged_model)``, or `bnlib.surgery.recalibrate`.
    """
    model, data = build(kind), batches(kind, count=50)
    average, optimizer = AveragedModel(model), adam(model)
    for epoch in range(6):
        train(model, data, optimizer)
        if epoch:
            average.update_parameters(model)
    if not faulty:
        update_bn(data, average)
    return Case(average.eval(), data[:8])


class Agent(nn.Module):
    """A network and its copy that lags behind, as in Q learning or contrastive learning."""

    def __init__(self, network):
        super().__init__()
        self.network, self.target = network, copy.deepcopy(network).requires_grad_(False)

    def forward(self, x):
        return self.network(x) - self.target(x)


@plant("buffers-not-copied", ResNet, MLP)
def target_network(kind, faulty):
    """The target network is brought up to date by a loop over ``parameters()``, without buffers.

    Remedy: ``target.load_state_dict(network.state_dict())``.
    """
    agent, data = Agent(build(kind)), batches(kind, count=50)
    optimizer = adam(agent.network)
    for _ in range(3):
        train(agent.network, data, optimizer)
        with torch.no_grad():
            pairs = zip(agent.target.parameters(), agent.network.parameters(), strict=True)
            for old, new in pairs:
                old.copy_(new)
        if not faulty:
            agent.target.load_state_dict(agent.network.state_dict())
    return Case(agent.eval(), data[:8])


@plant("ranks-differ", ResNet, MLP, processes=2)
def statistics_of_the_rank(kind, faulty):
    """Each process reads the images of one scanner, and those of the second are twice as bright.

    Gradients are averaged, but each norm keeps the statistics of its own images, so that the
    checkpoint of process 0 knows one scanner only.
    Remedy: `bnlib.nn.convert_sync_batchnorm`, or images of both scanners in each process.
    """
    rank = dist.get_rank()
    model = trained(kind)
    if not faulty:
        convert_sync_batchnorm(model)
    optimizer = adam(model)
    model.train()
    for x, y in batches(kind, count=40, seed=rank):
        loss_of(model(x * (1 + rank)), (x, y)).backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= 2
        optimizer.step()
        optimizer.zero_grad()
    both = [(torch.cat([x[:16], 2 * x[16:]]), y) for x, y in batches(kind)]
    return Case(model.eval(), both)
