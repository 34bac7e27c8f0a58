"""Faults in what running statistics and parameters hold."""

from __future__ import annotations

import copy
import functools

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.doctor.case import Case, plant
from benchmarks.doctor.networks import (
    MLP,
    NORM,
    Discriminator,
    ResNet,
    SequenceNet,
    Tabular,
    adam,
    batches,
    build,
    images,
    loss_of,
    norms,
    seeded,
    train,
    trained,
)
from bnlib.surgery import recalibrate


@plant("nonfinite-statistics", ResNet)
def skipped_step(kind, faulty):
    """A loop skips the step where the loss is not finite, as gradient scalers do.

    The forward pass of that mini-batch has already made the running statistics NaN for good.
    Remedy: ``bnlib.nn.BatchNorm2d(..., refuse_nonfinite=True)``, and `bnlib.surgery.recalibrate`.
    """
    model, data = trained(kind), batches(kind)
    x = data[0][0].clone()
    x[0, 0, 0, 0] = float("inf") if faulty else x[0, 0, 0, 0]
    model.train()
    optimizer = adam(model)
    loss = loss_of(model(x), data[0])
    if loss.isfinite():
        loss.backward()
        optimizer.step()
    return Case(model.eval(), data)


@plant("nonfinite-statistics", MLP)
def logarithm_of_zero(kind, faulty):
    """A feature is a logarithm, and one row of the table holds a zero in it.

    Remedy: ``log1p``, and `bnlib.surgery.recalibrate`.
    """
    model, data = trained(kind), batches(kind)
    x = data[0][0].clone()
    x[0, 0, 4, 4] = torch.log(torch.tensor(0.0)) if faulty else x[0, 0, 4, 4]
    with torch.no_grad():
        model.train()(x)
    return Case(model.eval(), data)


@plant("negative-variance", ResNet, MLP)
def negative_variance(kind, faulty):
    """Checkpoints are extrapolated or subtracted (task arithmetic, Lookahead) with their buffers.

    A variance that became smaller is then carried on below zero.
    Remedy: combine the parameters alone, then `bnlib.surgery.recalibrate`.
    """
    old = trained(kind)
    data = batches(kind, count=30)
    new = train(copy.deepcopy(old), data)
    with torch.no_grad():
        for norm in norms(old):
            norm.running_var.mul_(1.5)  # of an earlier epoch, when the variances were larger
    start, end = old.state_dict(), new.state_dict()
    model = copy.deepcopy(new)
    parameters = {name for name, _ in model.named_parameters()}
    for name, value in model.state_dict().items():
        if value.is_floating_point() and (faulty or name in parameters):
            value.copy_(start[name] + 4.0 * (end[name] - start[name]))
    if not faulty:
        recalibrate(model, data)
    return Case(model, data[:8])


@plant("dead-channel", MLP)
def constant_column(kind, faulty):
    """A column of the table is constant in the training data: a border pixel, a one-hot entry.

    Its variance is 0, so the norm multiplies whatever comes later by 1 / sqrt(eps), about 316.
    Remedy: leave the constant columns out.
    """
    lively = images()[0].flatten(1).std(0) > 0.1
    columns = torch.ones(64, dtype=torch.bool) if faulty else lively
    data = [(x.flatten(1)[:, columns], y) for x, y in batches(kind, count=100)]
    model = seeded(lambda: Tabular(int(columns.sum())))
    return Case(train(model, data * 4), data[:8])


class NormBehindActivation(nn.Module):
    """Convolution, ReLU, norm, along time."""

    def __init__(self, width=16):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv1d(1, width, 5, padding=2), nn.BatchNorm1d(width)
        self.conv2, self.norm2 = nn.Conv1d(width, width, 5, padding=2), nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.norm1(F.relu(self.conv1(x)))
        return self.head(self.norm2(F.relu(self.conv2(x))).mean(2))


@plant("dead-channel", SequenceNet)
def dead_relu(kind, faulty):
    """A step at too high a rate made some biases so negative that their ReLU never opens.

    Behind the norm these channels are constant, and no gradient revives them.
    Remedy: a lower rate or its warm-up; start the dead channels anew.
    """
    model = seeded(NormBehindActivation)
    data = batches(kind, count=100)
    train(model, data[:50])
    if faulty:
        with torch.no_grad():
            model.conv2.bias[:4] = -50.0
    return Case(train(model, data * 2), data[:8], {"loss": loss_of})


@plant("tiny-scale", Discriminator)
def weights_init(kind, faulty):
    """An initialization of a DCGAN gives every weight mean 0 and deviation 0.02, norms as well.

    A norm's weights should scatter around 1 there; around 0 the signal shrinks 50 times.
    Remedy: ``nn.init.normal_(norm.weight, 1.0, 0.02)``.
    """
    model = build(kind)
    with torch.no_grad():
        for module in model:
            if hasattr(module, "weight") and (faulty or module not in norms(model)):
                values = torch.randn(
                    module.weight.shape, generator=torch.Generator().manual_seed(0)
                )
                module.weight.copy_(0.02 * values)
    data = [(x, torch.ones(32, 1)) for x, _ in batches(ResNet, count=56)]
    model.train()
    for each, _ in data * 3:  # the statistics of some mini-batches, before any step
        model(each)
    loss = _real_or_fake
    return Case(model.eval(), data[:8], {"loss": loss})


def _real_or_fake(output, batch):
    return F.binary_cross_entropy_with_logits(output, batch[1])


@plant("tiny-scale", ResNet)
def slimmed(kind, faulty):
    """Network slimming sets the smallest scales to zero, and nobody takes the channels out.

    The network is as slow as before, with fewer features.
    Remedy: take them out.
    """
    model = trained(kind)
    if faulty:
        with torch.no_grad():
            for norm in norms(model):
                size = norm.weight.abs()
                norm.weight.mul_(size > size.quantile(0.3))
    return Case(model, batches(kind), {"loss": loss_of})


@plant("tiny-scale", MLP)
def zero_scales(kind, faulty):
    """The zero initialization of a ResNet's last scales is taken over for a network without sums.

    Then nothing but the last bias learns: zeros stand before every other weight's gradient.
    Remedy: zeros only in the last norm of a branch that is added.
    """
    model = build(kind)
    if faulty:
        for norm in norms(model):
            nn.init.zeros_(norm.weight)
    data = batches(kind, count=40)
    return Case(train(model, data), data[:8], {"loss": loss_of})


@plant("never-updated", ResNet)
def parameters_alone(kind, faulty):
    """A checkpoint holds ``model.parameters()`` alone, or its keys of buffers did not match.

    With ``strict=False`` that is no error.
    Remedy: save and load the ``state_dict()``, strictly; `bnlib.surgery.recalibrate`.
    """
    source = trained(kind)
    model = build(kind)
    model.load_state_dict(
        dict(source.named_parameters()) if faulty else source.state_dict(), strict=not faulty
    )
    return Case(model.eval(), batches(kind))


@plant("never-updated", MLP)
def trained_in_eval_mode(kind, faulty):
    """The last ``eval()`` is not followed by a ``train()``, so the whole training ran in eval mode.

    The norms are then a scale and a shift that normalize nothing.
    Remedy: ``model.train()`` at the start of each epoch.
    """
    model, data = build(kind), batches(kind, count=56)
    optimizer = adam(model)
    for batch in data * 2:
        model.train(not faulty)
        optimizer.zero_grad()
        loss_of(model(batch[0]), batch).backward()
        optimizer.step()
    return Case(model.eval(), data[:8])


@plant("too-few-updates", ResNet, SequenceNet)
def too_few_updates(kind, faulty):
    """A small momentum, taken from long trainings, meets a short one: 0.001 and 150 steps.

    86 percent of what eval mode uses are then the zeros and ones of the start.
    Remedy: `bnlib.surgery.recalibrate`, or a larger momentum.
    """
    norm = functools.partial(NORM[kind], momentum=0.001)
    model = trained(kind, norm=norm) if faulty else trained(kind)
    return Case(model, batches(kind))


@plant("train-eval-gap", ResNet, SequenceNet)
def pruned(kind, faulty):
    """Small weights are pruned, and the running statistics are still those of all weights.

    Remedy: `bnlib.surgery.recalibrate`.
    """
    model = trained(kind)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                size = module.weight.abs()
                module.weight.mul_(size > size.quantile(0.7))
    if not faulty:
        recalibrate(model, batches(kind, count=16, seed=2))
    return Case(model, batches(kind), {"loss": loss_of})


@plant("train-eval-gap", MLP)
def mean_of_two(kind, faulty):
    """The weights of two trainings are averaged, and the buffers with them.

    The mean of two features varies less than each of them did.
    Remedy: `bnlib.surgery.recalibrate`.
    """
    one = trained(kind)
    other = train(seeded(kind, seed=5), batches(kind, count=56) * 3)
    model = copy.deepcopy(one)
    start, end = one.state_dict(), other.state_dict()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_((start[name] + end[name]) / 2)
    if not faulty:
        recalibrate(model, batches(kind, count=16, seed=2))
    return Case(model, batches(kind), {"loss": loss_of})


@plant("train-eval-gap", ResNet, SequenceNet)
def fast_weights(kind, faulty):
    """A short training ends while the weights still move fast.

    The running statistics are averages over the last steps, so they belong to older weights.
    Remedy: `bnlib.surgery.recalibrate`, or a learning rate that falls towards the end.
    """
    rate = {ResNet: 0.05, SequenceNet: 0.02}[kind]
    model = seeded(kind, seed=0)
    train(model, (batches(kind, count=56) * 2)[:60], adam(model, rate))
    if not faulty:
        recalibrate(model, batches(kind, count=16, seed=2))
    return Case(model, batches(kind), {"loss": loss_of})
