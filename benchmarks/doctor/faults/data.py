"""Faults in what goes through the model."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.doctor.case import Case, plant
from benchmarks.doctor.networks import (
    MLP,
    Discriminator,
    Generator,
    ResNet,
    SequenceNet,
    UNet,
    batches,
    build,
    generator,
    images,
    loss_of,
    seeded,
    train,
    trained,
)
from bnlib import nn as bnn


@plant("few-values", UNet)
def micro_batch(kind, faulty):
    """Large images leave room for two a mini-batch, and the bottleneck has one pixel each.

    Each mean there is one of two values, so that the output is a sign.
    Remedy: `bnlib.surgery.replace` with group norm, or synchronized norms.
    """
    m = 2 if faulty else 32
    model = trained(kind).train()  # mini-batches of training matter
    return Case(model, batches(kind, m=m, count=256 // m), {"loss": loss_of})


@plant("few-values", MLP)
def last_batch(kind, faulty):
    """The size of the data set leaves two examples for the last mini-batch of each epoch.

    Remedy: ``DataLoader(..., drop_last=True)``.
    """
    data = batches(kind)
    if faulty:
        data.append((data[0][0][:2], data[0][1][:2]))
    return Case(trained(kind).train(), data, {"loss": loss_of})


@plant("mixed-populations", ResNet, MLP)
def sorted_classes(kind, faulty):
    """The files lie in a folder for each class, and nobody shuffles them.

    Each mini-batch is normalized by the statistics of its class, which eval mode does not have.
    Remedy: ``DataLoader(..., shuffle=True)``.
    """
    x, y = images()
    order = y.argsort(stable=True) if faulty else torch.randperm(len(y), generator=generator(1))
    data = [(x[i], y[i]) for i in order.split(32) if len(i) == 32]
    return Case(trained(kind), data, {"loss": loss_of})


@plant("shifted-input", ResNet, MLP)
def forgotten_scaling(kind, faulty):
    """The images were divided by their maximum in training, and are not where they are used.

    Remedy: one function prepares the input in both places.
    """
    scale = 16.0 if faulty else 1.0
    return Case(trained(kind), [(x * scale, y) for x, y in batches(kind)])


@plant("shifted-input", SequenceNet)
def other_device(kind, faulty):
    """A new sensor has an offset that the training data did not have.

    Remedy: `bnlib.surgery.adapt` to the new data, or remove the offset.
    """
    offset = 3.0 if faulty else 0.0
    return Case(trained(kind), [(x + offset, y) for x, y in batches(kind)])


class Padded(nn.Module):
    """A network for signals of different lengths, with or without a mask in its norms.

    The length of each stands in a second channel of the input: 1 where the signal is.
    """

    def __init__(self, masked, width=16):
        super().__init__()
        norm = bnn.MaskedBatchNorm1d if masked else nn.BatchNorm1d
        self.conv1, self.norm1 = nn.Conv1d(1, width, 5, padding=2), norm(width)
        self.conv2, self.norm2 = nn.Conv1d(width, width, 5, padding=2), norm(width)
        self.head, self.masked = nn.Linear(width, 10), masked

    def forward(self, x):
        x, mask = x[:, :1], x[:, 1:] > 0
        given = (mask[:, 0],) if self.masked else ()
        x = F.relu(self.norm1(self.conv1(x), *given)) * mask
        x = F.relu(self.norm2(self.conv2(x), *given)) * mask
        return self.head(x.sum(2) / mask.sum(2))


class Tokens(nn.Module):
    """Embeddings of words, a layer for each word, a norm; word 0 is the padding."""

    def __init__(self, masked, width=16):
        super().__init__()
        self.embed = nn.Embedding(20, width, padding_idx=0)
        self.layer = nn.Linear(width, width)
        self.norm = (bnn.MaskedBatchNorm1d if masked else nn.BatchNorm1d)(width)
        self.head, self.masked = nn.Linear(width, 10), masked

    def forward(self, words):
        mask = words > 0
        x = self.layer(self.embed(words)).transpose(1, 2)
        x = F.relu(self.norm(x, *((mask,) if self.masked else ()))) * mask[:, None]
        return self.head(x.sum(2) / mask.sum(1, keepdim=True))


def _lengths(count, least, most):
    return torch.randint(least, most + 1, (count,), generator=generator(3))


@plant("padding-in-statistics", SequenceNet)
def padded_signals(kind, faulty):
    """Signals of different lengths are padded with zeros to the longest of the mini-batch.

    The norms count the padding, so the statistics depend on which lengths meet.
    Remedy: `bnlib.nn.MaskedBatchNorm1d`, or mini-batches of like lengths.
    """
    data = []
    for x, y in batches(kind, count=100):
        mask = (torch.arange(40) < _lengths(len(x), 8, 40)[:, None])[:, None]
        data.append((torch.cat([x * mask, mask.float()], 1), y))
    model = seeded(lambda: Padded(masked=not faulty))
    return Case(train(model, data), data[:8])


@plant("padding-in-statistics", MLP)
def padded_words(kind, faulty):
    """Sentences are padded with word 0 to the length of the longest one.

    Remedy: `bnlib.nn.MaskedBatchNorm1d`.
    """
    words = torch.randint(1, 20, (3200, 24), generator=generator(4))
    labels = words[:, :4].sum(1) % 10
    words = words * (torch.arange(24) < _lengths(3200, 4, 24)[:, None])
    data = [*zip(words.split(32), labels.split(32), strict=True)]
    model = seeded(lambda: Tokens(masked=not faulty))
    return Case(train(model, data), data[:8])


class Recurrent(nn.Module):
    """An LSTM over 8 rows of 8 pixels, then a norm of its features (n, l, c)."""

    def __init__(self, faulty, width=8):
        super().__init__()
        self.lstm = nn.LSTM(8, width, batch_first=True)
        self.norm, self.faulty = nn.BatchNorm1d(width), faulty
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.lstm(x.squeeze(1))[0]
        x = self.norm(x) if self.faulty else self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x.mean(1))


class Tokenwise(nn.Module):
    """A layer for each of so many steps, and a norm (n, l, c)."""

    def __init__(self, faulty, steps=40, width=16):
        super().__init__()
        self.layer, self.layer2 = nn.Linear(1, width), nn.Linear(width, width)
        self.norm, self.faulty = nn.BatchNorm1d(steps if faulty else width), faulty
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.layer2(F.relu(self.layer(x.transpose(1, 2))))
        x = self.norm(x) if self.faulty else self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.head(F.relu(x).mean(1))


@plant("wrong-layout", ResNet)
def time_for_features(kind, faulty):
    """Features of an LSTM are (n, l, c), a norm takes (n, c, l), and l happens to equal c.

    There is no error; each step of time is normalized over all features.
    Remedy: ``norm(x.transpose(1, 2)).transpose(1, 2)``.
    """
    model = seeded(lambda: Recurrent(faulty))
    return Case(train(model, batches(kind, count=43) * 4), batches(kind))


@plant("wrong-layout", SequenceNet)
def obeyed_error(kind, faulty):
    """The error "expected 16 channels, got 40" is silenced by a norm of 40.

    40 is the length of the sequence.
    Remedy: ``norm(x.transpose(1, 2)).transpose(1, 2)`` with 16.
    """
    model = seeded(lambda: Tokenwise(faulty))
    return Case(train(model, batches(kind, count=60)), batches(kind))


def _joined(model, pair):
    return model(torch.cat(pair)).chunk(2)


def _apart(model, pair):
    return [model(x) for x in pair]


@plant("several-streams", Discriminator)
def real_and_fake(kind, faulty):
    """The discriminator sees real images in one pass and generated ones in the next.

    Its running statistics are a mean of two populations that no pass had.
    Remedy: one pass on both together, or `bnlib.nn.SplitBatchNorm2d`.
    """
    fakes = build(Generator)
    with torch.no_grad():
        data = [
            (x, fakes(torch.randn(len(x), 8, generator=generator(seed))))
            for seed, (x, _) in enumerate(batches(ResNet))
        ]
    return Case(build(kind), data, {"forward": _apart if faulty else _joined})


@plant("several-streams", ResNet, MLP)
def siamese(kind, faulty):
    """Twin branches share weights, and one sees photographs, the other one drawings (inverted).

    Remedy: `bnlib.nn.SplitBatchNorm2d`, with statistics for each of the two.
    """
    data = [(x, 1 - x) for x, _ in batches(kind)]
    model, forward = build(kind), _apart if faulty else _joined
    return Case(model, data, {"forward": forward})
