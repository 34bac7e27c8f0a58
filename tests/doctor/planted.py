"""Small models for the doctor's tests: healthy ones, trained a little, and runs of them."""

import torch
from random_inputs import SEED
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bnlib.doctor import watch
from bnlib.doctor.case import Case


class Residual(nn.Module):
    """Functional calls, a residual sum, a zero-initialized scale, and names that say nothing."""

    def __init__(self, channels=6, bias=False):
        super().__init__()
        self.a = nn.Conv2d(3, channels, 3, padding=1, bias=bias)
        self.b = nn.BatchNorm2d(channels)
        self.c = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.d = nn.BatchNorm2d(channels)
        self.e = nn.Linear(channels, 4)
        nn.init.zeros_(self.d.weight)

    def forward(self, x):
        x = F.relu(self.b(self.a(x)))
        x = x + self.d(self.c(x))
        return self.e(x.mean((2, 3)))


def mlp(bias=False, norm=nn.BatchNorm1d):
    return nn.Sequential(
        nn.Linear(5, 8, bias=bias),
        norm(8),
        nn.ReLU(),
        nn.Linear(8, 8, bias=bias),
        norm(8),
        nn.ReLU(),
        nn.Linear(8, 4),
    )


def images(count=4, size=16, seed=0):
    return batches((3, 6, 6), count, size, seed)


def features(count=4, size=16, seed=0):
    return batches((5,), count, size, seed)


def batches(shape, count, size, seed):
    generator = torch.Generator().manual_seed(seed + SEED)
    return [
        (
            torch.randn(size, *shape, generator=generator),
            torch.randint(4, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def loss(output, batch):
    return F.cross_entropy(output, batch[1])


def trained(model, data, steps=60, **options):
    """Return the model after some steps, in train mode."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, **options)
    for step in range(steps):
        optimizer.zero_grad()
        loss(model(data[step % len(data)][0]), data[step % len(data)]).backward()
        optimizer.step()
    return model


def found(rule, model, data=(), **options):
    """Return the findings of a module of `bnlib.doctor.rules` as pairs of places and evidence."""
    return [(each.where, dict(each.evidence)) for each in rule.check(Case(model, data, **options))]


def watched(model, data, step=None, *, learns=None, every=1):
    """Return the record of a loop that calls ``step(batch)``, by default a plain training step."""
    optimizer = torch.optim.SGD((learns or model).parameters(), lr=0.05)

    def plain(batch):
        loss(model(batch[0]), batch).backward()

    with watch(model, optimizer) as record:
        for number, batch in enumerate(data, 1):
            (step or plain)(batch)
            if number % every == 0:
                optimizer.step()
                optimizer.zero_grad()
    return record


def in_turn_with_a_generator(stops_gradients):
    """Return the record of a discriminator that sees real and fake in two backward passes."""
    generator, model, count = mlp(), nn.Sequential(nn.Linear(4, 5), mlp()), 5
    own, other = (torch.optim.SGD(m.parameters(), lr=0.05) for m in (model, generator))
    with watch(model, own) as record:
        for x, y in features(count):
            own.zero_grad()
            fake = generator(x)
            for shown, label in ((x[:, :4], y), (fake.detach(), y.flip(0))):
                loss(model(shown), (shown, label)).backward()
            own.step()
            other.zero_grad()
            model.requires_grad_(not stops_gradients)
            loss(model(fake), (fake, y)).backward()
            model.requires_grad_(True)
            other.step()
    return record, model


def checked(rule, model, data=(), **options):
    """Return the findings of a module of `bnlib.doctor.rules` as it yields them."""
    return list(rule.check(Case(model, data, **options)))
