"""Faults in how a model is trained: each case is a loop to be watched."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks.doctor.case import Case, plant
from benchmarks.doctor.networks import (
    CLASSES,
    MLP,
    ResNet,
    SequenceNet,
    UNet,
    adam,
    batches,
    build,
    loss_of,
    norms,
    train,
    trained,
)
from bnlib.surgery import freeze, pause_statistics


def watched(model, step, data, optimizer=None, *, mode=True, epochs=1):
    """Return a case whose loop does `step` for each mini-batch, then a step of the optimizer."""
    optimizer = optimizer or adam(model)

    def loop():
        for _ in range(epochs):
            model.train(mode)
            for batch in data:
                optimizer.zero_grad()
                step(batch)
                optimizer.step()

    return Case(model, data, {}, loop, optimizer)


@plant("eval-forgotten", ResNet, MLP)
def eval_forgotten(kind, faulty):
    """The validation of each epoch has its ``no_grad`` but not its ``eval()``.

    Its results depend on the mini-batch, and the statistics learn from the validation data.
    Remedy: ``model.eval()`` before, ``model.train()`` behind.
    """
    model, data, held_out = trained(kind), batches(kind), batches(kind, seed=7)
    optimizer = adam(model)

    def loop():
        for _ in range(2):
            train(model, data, optimizer).train(faulty)
            with torch.no_grad():
                for x, y in held_out:
                    (model(x).argmax(1) == y).float().mean()

    return Case(model, data, {}, loop, optimizer)


@plant("eval-forgotten", MLP)
def look_at_the_shapes(kind, faulty):
    """A tool that prints the shapes of a model sends noise through it, in train mode.

    Remedy: ``model.eval()`` before.
    """
    model = trained(kind)

    def loop():
        model.train(faulty)
        with torch.no_grad():
            for seed in range(3):
                model(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(seed)))

    return Case(model, batches(kind), {}, loop)


class Distillation(nn.Module):
    """A student that imitates a teacher."""

    def __init__(self, student, teacher):
        super().__init__()
        self.student, self.teacher = student, teacher

    def forward(self, x):
        with torch.no_grad():
            target = self.teacher(x)
        return F.mse_loss(self.student(x), target)


@plant("statistics-move-without-gradient", ResNet, SequenceNet)
def teacher_in_train_mode(kind, faulty):
    """The teacher is part of the model, and ``model.train()`` reaches it, too.

    ``no_grad`` and an optimizer without it do not keep its running statistics.
    Remedy: `bnlib.surgery.freeze` for the teacher.
    """
    teacher = trained(kind).requires_grad_(False)
    if not faulty:
        freeze(teacher)
    model = Distillation(build(kind), teacher)
    return watched(model, lambda batch: model(batch[0]).backward(), batches(kind))


def new_head(model):
    """Replace the last layer, as for new classes; return it."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        head = nn.Linear(16, CLASSES)
    model.head = head
    return head


@plant("frozen-but-moving", ResNet, SequenceNet)
def frozen_but_moving(kind, faulty):
    """A backbone is frozen by ``requires_grad_(False)``, which the running statistics do not obey.

    Remedy: `bnlib.surgery.freeze`.
    """
    model = trained(kind).requires_grad_(False)
    head = new_head(model)
    if not faulty:
        freeze(model)

    def step(batch):
        loss_of(model(batch[0]), batch).backward()

    return watched(model, step, batches(kind), adam(head))


@plant("thawed-by-train", ResNet, SequenceNet)
def thawed_by_train(kind, faulty):
    """The norms are set to eval mode once, and the next epoch begins with ``model.train()``.

    Remedy: `bnlib.surgery.freeze`, which ``train()`` does not undo.
    """
    model, data = trained(kind), batches(kind)
    if not faulty:
        freeze(model, parameters=False)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)

    def loop():
        model.train()
        for norm in norms(model):
            norm.eval()
        for _ in range(2):
            for batch in data:
                optimizer.zero_grad()
                loss_of(model(batch[0]), batch).backward()
                optimizer.step()
            model.train()

    return Case(model, data, {}, loop, optimizer)


@plant("accumulated-gradients", ResNet, UNet)
def accumulated_gradients(kind, faulty):
    """The memory holds two examples, so the gradients of 16 passes are summed to be 32.

    That is right for the gradient, but each norm has seen two examples.
    Remedy: `bnlib.surgery.replace` with group norm, or larger micro-batches.
    """
    m = 2 if faulty else 32
    model, data = trained(kind), batches(kind, m=m, count=32)
    optimizer = adam(model)

    def loop():
        model.train()
        for number, batch in enumerate(data, 1):
            (loss_of(model(batch[0]), batch) / 16).backward()
            if number % 16 == 0:
                optimizer.step()
                optimizer.zero_grad()

    return Case(model, data, {}, loop, optimizer)


class Checkpointed(nn.Module):
    """A ResNet that repeats its forward pass in the backward pass to save memory."""

    def __init__(self, model, repeat):
        super().__init__()
        self.model, self.repeat = model, repeat

    def forward(self, x):
        if not self.repeat:
            return self.model(x)
        return checkpoint(self.model, x, use_reentrant=False)


@plant("updated-twice", ResNet, UNet)
def checkpointing(kind, faulty):
    """Activation checkpointing repeats the forward pass, and each pass updates the statistics.

    Remedy: `bnlib.surgery.pause_statistics` for the repetition.
    """
    model = Checkpointed(trained(kind), faulty)
    return watched(model, lambda b: loss_of(model(b[0]), b).backward(), batches(kind))


@plant("updated-twice", MLP)
def sharpness_aware(kind, faulty):
    """Sharpness-aware minimization takes a second pass at displaced weights.

    Its activations are not those of the model, and they enter the statistics.
    Remedy: `bnlib.surgery.pause_statistics` around the second pass.
    """
    model = trained(kind)

    def step(batch):
        loss_of(model(batch[0]), batch).backward()
        moves = [0.05 * p.grad / (p.grad.norm() + 1e-12) for p in model.parameters()]
        _move(model, moves, 1)
        model.zero_grad()
        if faulty:
            loss_of(model(batch[0]), batch).backward()
        else:
            with pause_statistics(model):
                loss_of(model(batch[0]), batch).backward()
        _move(model, moves, -1)

    return watched(model, step, batches(kind))


@torch.no_grad()
def _move(model, moves, sign):
    for parameter, move in zip(model.parameters(), moves, strict=True):
        parameter += sign * move


@plant("two-forwards", ResNet, MLP)
def accuracy_again(kind, faulty):
    """The accuracy of the training data is printed from a second pass on the same mini-batch.

    Remedy: take it from the output that the loss was made of.
    """
    model = trained(kind)

    def step(batch):
        x, y = batch
        output = model(x)
        loss_of(output, batch).backward()
        again = model(x) if faulty else output
        (again.argmax(1) == y).float().mean()

    return watched(model, step, batches(kind))


@plant("train-forgotten", ResNet, SequenceNet)
def train_forgotten(kind, faulty):
    """The validation sets eval mode, and ``model.train()`` stands before the loop over epochs.

    From the second epoch on the statistics stay, while the weights go on learning.
    Remedy: ``model.train()`` at the beginning of each epoch.
    """
    model, data, held_out = build(kind), batches(kind, count=16), batches(kind, seed=7)
    optimizer = adam(model)

    def loop():
        model.train()
        for _ in range(3):
            model.train(model.training or not faulty)
            for batch in data:
                optimizer.zero_grad()
                loss_of(model(batch[0]), batch).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for x, y in held_out:
                    (model(x).argmax(1) == y).float().mean()

    return Case(model, data, {}, loop, optimizer)


class Stepped(nn.Module):
    """A model as a LightningModule is: the loop calls its method, not the module itself."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def training_step(self, batch):
        return loss_of(self.net(batch[0]), batch)


@plant("eval-forgotten", SequenceNet)
def eval_forgotten_in_a_wrapper(kind, faulty):
    """The loop calls ``training_step`` of a wrapper, also for the validation in train mode.

    Remedy: ``model.eval()`` before, ``model.train()`` behind.
    """
    model, data, held_out = Stepped(trained(kind)), batches(kind), batches(kind, seed=7)
    optimizer = adam(model)

    def loop():
        for _ in range(2):
            model.train()
            for batch in data:
                optimizer.zero_grad()
                model.training_step(batch).backward()
                optimizer.step()
            model.train(faulty)
            with torch.no_grad():
                for batch in held_out:
                    model.training_step(batch)

    return Case(model, data, {}, loop, optimizer)


@plant("eval-forgotten", ResNet)
def no_grad_forgotten_as_well(kind, faulty):
    """The validation has neither its ``eval()`` nor its ``no_grad``.

    Remedy: both, and ``model.train()`` behind.
    """
    model, data, held_out = trained(kind), batches(kind), batches(kind, seed=7)
    optimizer = adam(model)

    def loop():
        for _ in range(2):
            train(model, data, optimizer).train(faulty)
            for x, y in held_out:
                (model(x).argmax(1) == y).float().mean()

    return Case(model, data, {}, loop, optimizer)


@plant("frozen-but-moving", MLP)
def left_out_of_the_optimizer(kind, faulty):
    """A backbone is frozen by giving the optimizer the parameters of the head alone.

    Remedy: `bnlib.surgery.freeze` for its norms.
    """
    model = trained(kind)
    if not faulty:
        freeze(model, parameters=False)

    def step(batch):
        loss_of(model(batch[0]), batch).backward()

    return watched(model, step, batches(kind), adam(model[-1]))


@plant("accumulated-gradients", MLP)
def accumulated_in_a_wrapper(kind, faulty):
    """A wrapper's ``training_step`` sees two examples at a time, and 16 gradients are summed.

    Remedy: `bnlib.surgery.replace` with group norm, or larger micro-batches.
    """
    m = 2 if faulty else 32
    model, data = Stepped(trained(kind)), batches(kind, m=m, count=32)
    optimizer = adam(model)

    def loop():
        model.train()
        for number, batch in enumerate(data, 1):
            (model.training_step(batch) / 16).backward()
            if number % 16 == 0:
                optimizer.step()
                optimizer.zero_grad()

    return Case(model, data, {}, loop, optimizer)
