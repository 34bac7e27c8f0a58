"""Faults in how a norm was built, or where it stands."""

from __future__ import annotations

import functools

import torch
from torch import nn

from benchmarks.doctor.case import Case, plant
from benchmarks.doctor.networks import (
    MLP,
    NORM,
    ResNet,
    SequenceNet,
    Tabular,
    UNet,
    batches,
    generator,
    loss_of,
    norms,
    seeded,
    train,
    trained,
)
from bnlib.surgery import parameter_groups


@plant("large-momentum", ResNet, SequenceNet)
def large_momentum(kind, faulty):
    """Code from Keras is carried over with its momentum of 0.99, which weighs the old there.

    Remedy: the momentum of PyTorch weighs the new: ``momentum=0.01``.
    """
    norm = functools.partial(NORM[kind], momentum=0.99 if faulty else 0.01)
    model = trained(kind, norm=norm) if faulty else trained(kind)
    return Case(model, batches(kind))


@plant("mixed-eps", ResNet, UNet)
def mixed_eps(kind, faulty):
    """A part is rewritten from Keras, whose eps is 0.001, and put to layers with PyTorch's.

    Remedy: give all norms the eps that the weights were trained with.
    """
    model = trained(kind)
    for norm in norms(model)[-2:]:
        norm.eps = 1e-3 if faulty else norm.eps
    return Case(model, batches(kind))


@plant("tracking-flag", ResNet, MLP)
def tracking_flag(kind, faulty):
    """Somebody wants the statistics of the mini-batch in eval mode and sets the flag afterwards.

    The buffers are still there, so eval mode goes on to use them, and nothing updates them.
    Remedy: `bnlib.surgery.use_batch_statistics`.
    """
    model = trained(kind)
    for norm in norms(model):
        norm.track_running_stats = not faulty
    return Case(model, batches(kind))


@plant("leak-through-batch", ResNet, MLP)
def leak_through_batch(kind, faulty):
    """A norm without running statistics makes the prediction for one depend on its companions.

    Remedy: leave ``track_running_stats`` as it is by default.
    """
    options = {"norm": functools.partial(NORM[kind], track_running_stats=False)} if faulty else {}
    return Case(trained(kind, **options), batches(kind))


@plant("idle-bias", ResNet, MLP, SequenceNet)
def idle_bias(kind, faulty):
    """The layer before a norm keeps its bias, since that is the default.

    Remedy: ``bias=False``, or `bnlib.surgery.remove_redundant_bias` for a trained model.
    """
    return Case(trained(kind, bias=faulty), batches(kind), {"loss": loss_of})


@plant("dropout-before-norm", ResNet, MLP)
def dropout_before_norm(kind, faulty):
    """Dropout is put behind each convolution or linear layer, so that the norm sees its noise.

    In train mode dropout adds variance that is not there in eval mode.
    Remedy: put dropout behind the last norm.
    """
    return Case(trained(kind, drop=0.5 if faulty else 0.0), batches(kind))


class NormAtOutput(nn.Sequential):
    """A network with a norm behind its last layer."""

    def __init__(self, kind, faulty):
        outputs = 1 if kind is UNet else 10
        super().__init__(kind(), NORM[kind](outputs) if faulty else nn.Identity())


@plant("norm-at-output", MLP, UNet)
def norm_at_output(kind, faulty):
    """A helper that builds layer, norm, activation is used for the last layer, too.

    Remedy: end with a layer without norm.
    """
    model = seeded(lambda: NormAtOutput(kind, faulty))
    return Case(train(model, batches(kind, count=40)), batches(kind), {"loss": loss_of})


@plant("decayed-norm", ResNet, SequenceNet)
def decayed_norm(kind, faulty):
    """All parameters go into the optimizer with one weight decay: scales and shifts as well.

    Remedy: `bnlib.surgery.parameter_groups`.
    """
    model = trained(kind)
    parameters = model.parameters() if faulty else parameter_groups(model, 0.05)
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.05 if faulty else 0.0)
    return Case(model, batches(kind), {"optimizer": optimizer, "loss": loss_of})


@plant("half-statistics", ResNet, MLP)
def half_statistics(kind, faulty):
    """``model.bfloat16()`` or ``half()`` saves memory, and casts the running statistics, too.

    An update that is smaller than half the distance of two numbers is lost.
    Remedy: ``torch.autocast``, or ``norm.float()`` for each norm.
    """
    model = trained(kind)
    data = batches(kind)
    if faulty:
        dtype = torch.bfloat16 if kind is ResNet else torch.float16
        model, data = model.to(dtype), [(x.to(dtype), y) for x, y in data]
    return Case(model.train(), data)


@plant("far-from-zero", MLP, SequenceNet)
def far_from_zero(kind, faulty):
    """Raw measurements (seconds since 1970, pascals of air pressure) go into an input norm.

    A float32 has seven digits: what is left of a signal of 1 on 100,000 is two of them.
    Remedy: subtract a constant in float64 before the cast.
    """
    offset = 1e5 if faulty else 0.0
    spread = torch.rand(32, 1, 8, 8, generator=generator()) if kind is MLP else 0
    data = [(x + spread + offset, y) for x, y in batches(kind, count=40)]
    model = seeded(lambda: Tabular() if kind is MLP else nn.Sequential(nn.BatchNorm1d(1), kind()))
    return Case(train(model, data), data[:8])
