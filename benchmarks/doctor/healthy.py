"""Small trained models with nothing wrong: each docstring says why one might think otherwise."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.checkpoint import checkpoint

from benchmarks.doctor.case import Case
from benchmarks.doctor.faults.copies import Agent
from benchmarks.doctor.faults.data import Padded
from benchmarks.doctor.faults.loops import Distillation, Stepped, new_head, watched
from benchmarks.doctor.networks import (
    MLP,
    Discriminator,
    Generator,
    ResNet,
    SequenceNet,
    UNet,
    adam,
    batches,
    build,
    generator,
    images,
    loss_of,
    norms,
    seeded,
    train,
    trained,
)
from bnlib import nn as bnn
from bnlib.surgery import (
    fold,
    freeze,
    group_norm,
    parameter_groups,
    pause_statistics,
    recalibrate,
    replace,
    to,
)

HEALTHY: dict[str, Callable[[], Case]] = {}


def healthy(make: Callable[[], Case]) -> Callable[[], Case]:
    """Note that a function makes a healthy case."""
    HEALTHY[make.__name__] = make
    return make


def looked_at(model: nn.Module, kind: type[nn.Module], m: int = 32) -> Case:
    """Return a case with all that `examine` can be given."""
    optimizer = torch.optim.SGD(parameter_groups(model, 1e-4), 0.1)
    return Case(model, batches(kind, m), {"loss": loss_of, "optimizer": optimizer})


def steps(model, kind, optimizer=None, forward=None):
    """Return a case whose loop trains for some steps, as a plain loop does."""

    def step(batch):
        loss_of((forward or model)(batch[0]), batch).backward()

    return watched(model, step, batches(kind), optimizer)


@healthy
def resnet():
    """The last scale of each branch began at zero."""
    return looked_at(trained(ResNet), ResNet)


@healthy
def mlp():
    """Nothing is unusual."""
    return looked_at(trained(MLP), MLP)


@healthy
def sequence_net():
    """Nothing is unusual."""
    return looked_at(trained(SequenceNet), SequenceNet)


@healthy
def unet():
    """The bottleneck has one pixel, so each mean there is one of 32 values."""
    return looked_at(trained(UNet), UNet)


@healthy
def new_resnet():
    """A model that has not been trained yet has no statistics, and zero scales."""
    return Case(build(ResNet).train())


@healthy
def single_image():
    """A deployed model sees one image at a time, in eval mode."""
    x, y = images()
    return Case(trained(UNet), [(x[i : i + 1], y[i : i + 1]) for i in range(8)])


@healthy
def only_the_state():
    """There is nothing but a checkpoint."""
    return Case(trained(ResNet).state_dict())


@healthy
def dropout_behind():
    """Dropout stands behind the last norm."""
    model = trained(ResNet)
    model.head = nn.Sequential(nn.Dropout(0.3), model.head)
    return looked_at(train(model, batches(ResNet, count=40)), ResNet)


@healthy
def kerass_eps():
    """All norms have the eps and the momentum of Keras, the latter in PyTorch's direction."""
    norm = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
    model = train(trained(ResNet, norm=norm), batches(ResNet, count=56) * 12)
    return looked_at(model, ResNet)


@healthy
def cumulative_average():
    """``momentum=None`` keeps the mean of all mini-batches."""
    model = trained(ResNet)
    for norm in norms(model):
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for x, _ in batches(ResNet, count=30):
            model.train()(x)
    return looked_at(model.eval(), ResNet)


class PreActivation(nn.Module):
    """A network of residual blocks that begin with norm and ReLU."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=False):
            x = x + conv(F.relu(norm(x)))
        return self.head(F.relu(self.norms[-1](x)).mean((2, 3)))


@healthy
def pre_activation():
    """Biases stand before a sum and a norm: they count, as the sum goes on beside the norm."""
    return looked_at(train(seeded(PreActivation), batches(ResNet, count=56) * 3), ResNet)


class BehindActivation(nn.Sequential):
    """Layer, ReLU, norm."""

    def __init__(self, width=32):
        super().__init__(nn.Flatten())
        for d_in in (64, width):
            self.extend([nn.Linear(d_in, width), nn.ReLU(), nn.BatchNorm1d(width)])
        self.append(nn.Linear(width, 10))


@healthy
def behind_the_activation():
    """Biases stand before a ReLU and a norm: they count."""
    return looked_at(train(seeded(BehindActivation), batches(MLP, count=56) * 3), MLP)


class Excited(nn.Module):
    """A convolution with squeeze and excitation, which has a norm of its own on 1 by 1 maps."""

    def __init__(self, width=16):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.squeeze = nn.Conv2d(width, 8, 1, bias=False)
        self.norm_se, self.expand = nn.BatchNorm2d(8), nn.Conv2d(8, width, 1)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        s = F.relu(self.norm_se(self.squeeze(x.mean((2, 3), keepdim=True))))
        return self.head((x * self.expand(s).sigmoid()).mean((2, 3)))


def excited():
    """Return such a network, trained to the end: at the first rate its averages lag behind."""
    model, data = seeded(Excited), batches(ResNet, count=56)
    return train(train(model, data * 3), data, adam(model, 5e-4))


@healthy
def squeeze_and_excitation():
    """A norm has maps of one pixel, and 32 values per mean."""
    return looked_at(excited(), ResNet)


@healthy
def squeeze_and_excitation_deployed():
    """A norm has maps of one pixel, and sees one image at a time in eval mode."""
    x, y = images()
    return Case(excited(), [(x[i : i + 1], y[i : i + 1]) for i in range(8)])


@healthy
def group_norms():
    """There is no batch norm."""
    model = replace(build(ResNet), group_norm(4))
    return looked_at(train(model, batches(ResNet, count=40)), ResNet)


@healthy
def layer_norms():
    """There is no batch norm, and mini-batches of two do not matter."""
    return looked_at(trained(MLP, norm=nn.LayerNorm), MLP, m=2)


@healthy
def folded():
    """The batch norms are folded into the convolutions, whose biases are needed now."""
    model, _ = fold(trained(ResNet), batches(ResNet)[0][0][:2])
    return Case(model, batches(ResNet), {"loss": loss_of})


@healthy
def ghost_batches():
    """Each norm takes its means over 16 of 32 examples, on purpose."""
    norm = functools.partial(bnn.GhostBatchNorm1d, ghost_size=16)
    return looked_at(trained(MLP, norm=norm), MLP)


@healthy
def masked_sequences():
    """Much of the input is padding, which the masks leave out."""
    data = []
    for x, y in batches(SequenceNet, count=100):
        lengths = torch.randint(8, 41, (len(x), 1), generator=generator(3))
        mask = (torch.arange(40) < lengths)[:, None]
        data.append((torch.cat([x * mask, mask.float()], 1), y))
    return Case(train(seeded(lambda: Padded(masked=True)), data), data[:8], {"loss": loss_of})


@healthy
def exponential_average():
    """The average has its own buffers, which follow the training."""
    model, data = trained(ResNet), batches(ResNet, count=50)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    optimizer = adam(model)
    for batch in data:
        train(model, [batch], optimizer)
        average.update_parameters(model)
    return Case(average.eval(), data[:8], {"loss": loss_of})


@healthy
def stochastic_weight_average():
    """The average got its statistics at the end, by `update_bn`."""
    model, data = trained(ResNet), batches(ResNet, count=50)
    average, optimizer = AveragedModel(model), adam(model)
    for _ in range(3):
        train(model, data, optimizer)
        average.update_parameters(model)
    update_bn(data, average)
    return Case(average.eval(), data[:8], {"loss": loss_of})


@healthy
def recalibrated():
    """The statistics were set from data at the end; the counter did not move."""
    model = trained(ResNet)
    recalibrate(model, batches(ResNet, count=20))
    return looked_at(model, ResNet)


@healthy
def copied_target():
    """A target network gets parameters and buffers."""
    agent, data = Agent(trained(MLP)), batches(MLP, count=20)
    train(agent.network, data)
    agent.target.load_state_dict(agent.network.state_dict())
    return Case(agent.eval(), data[:8])


@healthy
def plain_loop():
    """A plain training is watched."""
    return steps(trained(ResNet), ResNet)


@healthy
def standard_recipe():
    """SGD with one weight decay of 0.0001 for all, as in the recipe of ImageNet."""
    model = trained(ResNet)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    return steps(model, ResNet, optimizer)


@healthy
def with_validation():
    """The validation of each epoch runs in eval mode."""
    model, data, held_out = trained(ResNet), batches(ResNet), batches(ResNet, seed=7)
    optimizer = adam(model)

    def loop():
        for _ in range(2):
            train(model, data, optimizer)
            with torch.no_grad():
                for x, y in held_out:
                    (model(x).argmax(1) == y).float().mean()

    return Case(model, data, {}, loop, optimizer)


@healthy
def recalibration_at_the_end():
    """Behind the training the statistics are made anew, in train mode without gradients."""
    model, data = trained(ResNet), batches(ResNet)
    optimizer = adam(model)

    def loop():
        train(model, data, optimizer)
        update_bn(data, model)

    return Case(model, data, {}, loop, optimizer)


@healthy
def frozen_backbone():
    """A backbone is frozen with its norms, and only the head learns."""
    model = trained(ResNet).requires_grad_(False)
    head = new_head(model)
    freeze(model)
    return steps(model, ResNet, adam(head))


@healthy
def frozen_batch_norms():
    """The norms were replaced by frozen ones without parameters, and all else learns."""
    return steps(replace(trained(ResNet), to(bnn.FrozenBatchNorm2d)), ResNet)


@healthy
def norms_in_eval_mode():
    """The norms are put to eval mode again after each ``train()``."""
    model, data = trained(ResNet), batches(ResNet)
    optimizer = adam(model)

    def loop():
        for _ in range(2):
            model.train()
            for norm in norms(model):
                norm.eval()
            for batch in data:
                optimizer.zero_grad()
                loss_of(model(batch[0]), batch).backward()
                optimizer.step()

    return Case(model, data, {}, loop, optimizer)


@healthy
def accumulated():
    """Gradients of two passes are summed, and each norm sees 32 examples in each."""
    model, data = trained(ResNet), batches(ResNet, count=16)
    optimizer = adam(model)

    def loop():
        model.train()
        for number, batch in enumerate(data, 1):
            (loss_of(model(batch[0]), batch) / 2).backward()
            if number % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()

    return Case(model, data, {}, loop, optimizer)


@healthy
def autocast():
    """Convolutions run in bfloat16; parameters and running statistics are float32."""
    model = trained(ResNet)

    def forward(x):
        with torch.autocast("cpu", torch.bfloat16):
            return model(x).float()

    return steps(model, ResNet, forward=forward)


@healthy
def paused_repetition():
    """Checkpointing repeats the forward pass, with the statistics paused."""
    model = trained(ResNet)

    def contexts():
        return contextlib.nullcontext(), pause_statistics(model)

    return steps(
        model,
        ResNet,
        forward=lambda x: checkpoint(model, x, use_reentrant=False, context_fn=contexts),
    )


@healthy
def two_views():
    """Each step has two passes, on two random views of the same images, as contrastive ones do."""
    model = trained(ResNet)
    source = generator(5)

    def view(x):
        return x + 0.1 * torch.randn(x.shape, generator=source)

    def step(batch):
        one, other = model(view(batch[0])), model(view(batch[0]))
        F.mse_loss(one, other).backward()

    return watched(model, step, batches(ResNet))


@healthy
def momentum_teacher():
    """A teacher in train mode follows its student by moving averages, as in BYOL, on purpose."""
    student = trained(ResNet)
    model = Distillation(student, copy.deepcopy(student).requires_grad_(False))
    new_head(student)  # or both agree, and nothing is to be learned

    def step(batch):
        model(batch[0]).backward()
        with torch.no_grad():
            pairs = zip(model.teacher.parameters(), student.parameters(), strict=True)
            for old, new in pairs:
                old.lerp_(new, 0.01)

    return watched(model, step, batches(ResNet), adam(student))


def _adversarial(norm, call):
    model, source = build(Discriminator, norm=norm), generator(0)
    fakes = build(Generator)

    def step(x):
        with torch.no_grad():
            fake = fakes(torch.randn(len(x), 8, generator=source))
        real_out, fake_out = call(model, x, fake)
        (F.softplus(-real_out).mean() + F.softplus(fake_out).mean()).backward()

    return watched(model, step, [x for x, _ in batches(ResNet, count=16)])


@healthy
def split_streams():
    """The discriminator sees real and generated images in turn; its norms keep them apart."""

    def call(model, x, fake):
        with bnn.use_stream(model, 0):
            real_out = model(x)
        with bnn.use_stream(model, 1):
            return real_out, model(fake)

    return _adversarial(bnn.SplitBatchNorm2d, call)


@healthy
def joined_streams():
    """The discriminator sees real and generated images in one pass."""
    return _adversarial(nn.BatchNorm2d, lambda model, x, fake: model(torch.cat([x, fake])).chunk(2))


class Skipping(nn.Module):
    """Residual blocks, of which three in ten are skipped in a mini-batch of training."""

    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
            for _ in range(3)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x)
        for conv in self.convs:
            if not self.training or torch.rand(()) > 0.3:
                x = x + F.relu(conv(x)) * (1 if self.training else 0.7)
        return self.head(x.mean((2, 3)))


@healthy
def stochastic_depth():
    """Layers are skipped at random, so a norm sees only some of the mini-batches."""
    return looked_at(train(seeded(Skipping), batches(ResNet, count=56) * 3), ResNet)


@healthy
def small_batches_in_eval_mode():
    """Maps of one pixel, in mini-batches of four: of no matter in eval mode."""
    return Case(excited(), batches(ResNet, m=4))


@healthy
def similarities():
    """The model returns how much alike all pairs of examples are, which are no outputs of one."""
    return Case(trained(MLP), batches(MLP), {"forward": lambda m, b: (y := m(b[0])) @ y.T})


@healthy
def in_turn_with_a_generator():
    """A step of the generator leaves gradients in the discriminator, which are cleared unused."""
    model, fakes, source = build(Discriminator), build(Generator), generator(0)
    optimizer, other = adam(model), adam(fakes)

    def loop():
        for x, _ in batches(ResNet, m=4, count=16):
            optimizer.zero_grad()
            fake = fakes(torch.randn(len(x), 8, generator=source))
            F.softplus(-model(x)).mean().backward()
            F.softplus(model(fake.detach())).mean().backward()
            optimizer.step()
            other.zero_grad()
            F.softplus(-model(fake)).mean().backward()
            other.step()

    return Case(model.train(), [], {}, loop, optimizer)


@healthy
def discriminator_at_rest():
    """A step of the generator ends with a discriminator in train mode that has no gradients."""
    return looked_at(train(trained(ResNet), batches(ResNet)).train().requires_grad_(False), ResNet)


@healthy
def called_by_its_method():
    """The loop never calls the model itself, as with Lightning; its evaluation is in eval mode."""
    model, data = Stepped(trained(ResNet)), batches(ResNet)
    optimizer = adam(model)

    def loop():
        for _ in range(2):
            model.train()
            for batch in data:
                optimizer.zero_grad()
                model.training_step(batch).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for batch in batches(ResNet, seed=7):
                    model.training_step(batch)

    return Case(model, data, {}, loop, optimizer)


@healthy
def encoder_and_decoder():
    """The loop calls two parts of the model one after another, with a single loss."""
    layers = [*build(MLP)]
    encoder, decoder = nn.Sequential(*layers[:4]), nn.Sequential(*layers[4:])
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})

    def step(batch):
        loss_of(model["decoder"](model["encoder"](batch[0])), batch).backward()

    return watched(model, step, batches(MLP))


@healthy
def precise_statistics():
    """The statistics are computed anew in train mode, with a momentum of one, as in detectron2."""
    model, data = trained(ResNet), batches(ResNet)
    optimizer = adam(model)

    def loop():
        for _ in range(2):
            train(model, data, optimizer)
            sums = [torch.zeros(2, norm.num_features) for norm in norms(model)]
            for norm in norms(model):
                norm.momentum = 1.0
            with torch.no_grad():
                for x, _ in data:
                    model.train()(x)
                    for total, norm in zip(sums, norms(model), strict=True):
                        total += torch.stack([norm.running_mean, norm.running_var]) / len(data)
                for total, norm in zip(sums, norms(model), strict=True):
                    norm.momentum = 0.1
                    norm.running_mean.copy_(total[0])
                    norm.running_var.copy_(total[1])

    return Case(model, data, {}, loop, optimizer)


def _within(model):
    """Return a model as the part of another one, with a head."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(model, nn.ReLU(), nn.Linear(10, 10))


@healthy
def attack_in_eval_mode():
    """In each step a part of the model is attacked in eval mode, and trained in train mode."""
    model = _within(trained(ResNet))

    def step(batch):
        x = batch[0].clone().requires_grad_()
        model[0].eval()
        (gradient,) = torch.autograd.grad(loss_of(model(x), batch), x)
        model[0].train()
        loss_of(model((x + 0.1 * gradient.sign()).detach()), batch).backward()

    return watched(model, step, batches(ResNet))


@healthy
def gradual_unfreezing():
    """A part in eval mode, without gradients, goes to train mode when its turn has come."""
    model, data = _within(trained(ResNet).requires_grad_(False)), batches(ResNet)
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)

    def loop():
        model.train()
        for learns in (False, True):
            model[0].train(learns).requires_grad_(learns)
            for batch in data:
                optimizer.zero_grad()
                loss_of(model(batch[0]), batch).backward()
                optimizer.step()

    return Case(model, data, {}, loop, optimizer)


@healthy
def momentum_teacher_examined():
    """A teacher in train mode has no gradients, and nobody watches it follow its student."""
    model = Distillation(trained(ResNet), trained(ResNet).requires_grad_(False))
    return Case(model.train(), batches(ResNet))


@healthy
def momentum_teacher_without_scales():
    """The norms of a teacher have no parameters that could be seen to follow its student."""
    norm = functools.partial(nn.BatchNorm2d, affine=False)
    student = trained(ResNet, norm=norm)
    model = Distillation(student, copy.deepcopy(student).requires_grad_(False))
    new_head(student)

    def step(batch):
        model(batch[0]).backward()
        with torch.no_grad():
            pairs = zip(model.teacher.parameters(), student.parameters(), strict=True)
            for old, new in pairs:
                old.lerp_(new, 0.01)

    return watched(model, step, batches(ResNet), adam(student))


@healthy
def two_optimizers():
    """Two losses on one mini-batch have an optimizer each, with a step between the passes."""
    model = trained(ResNet)
    value = adam(model.head)

    def step(batch):
        value.zero_grad()
        model(batch[0]).square().mean().backward()
        value.step()
        model.zero_grad()
        loss_of(model(batch[0]), batch).backward()

    return watched(model, step, batches(ResNet))


@healthy
def early_stopping():
    """The loop copies the model and runs the copy, while both are in train mode."""
    model = trained(ResNet)

    def step(batch):
        loss_of(model(batch[0]), batch).backward()
        with torch.no_grad():
            copy.deepcopy(model)(batch[0])

    return watched(model, step, batches(ResNet))
