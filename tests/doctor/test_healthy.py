"""Healthy models of kinds that one might take for faulty ones: no rule says anything of them."""

import contextlib
import copy
import functools

import pytest
import torch
from doctor.planted import Residual, features, images, loss, mlp, trained, watched
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint

from bnlib import nn as bnn
from bnlib.doctor import examine, watch
from bnlib.surgery import freeze, pause_statistics, recalibrate, replace, to

HEALTHY = {}


def healthy(make):
    HEALTHY[make.__name__] = make
    return make


class Excited(Residual):
    """Squeeze and excitation with a norm of its own, on maps of one pixel."""

    def __init__(self):
        super().__init__()
        self.squeeze, self.norm_se = nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.expand = nn.Conv2d(4, 6, 1)

    def forward(self, x):
        x = F.relu(self.b(self.a(x)))
        s = F.relu(self.norm_se(self.squeeze(x.mean((2, 3), keepdim=True))))
        x = x * self.expand(s).sigmoid()
        x = x + self.d(self.c(x))
        return self.e(x.mean((2, 3)))


class Encoder(nn.Module):
    """Blocks that start as copies of one another, as those of nn.TransformerEncoder do."""

    def __init__(self):
        super().__init__()
        block = nn.ModuleList([nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)])
        self.blocks = nn.ModuleList(copy.deepcopy(block) for _ in range(3))
        self.first, self.head = nn.Linear(5, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.first(x)
        for first, norm, second in self.blocks:
            x = x + second(F.relu(first(3 * norm(x))))
        return self.head(x)


def looked_at(model, data):
    return examine(model, data, loss=loss)


@healthy
def new_models():
    return [looked_at(make(), data()) for make, data in ((mlp, features), (Excited, images))]


@healthy
def excited_in_train_mode():
    return [looked_at(trained(Excited(), images()), images())]


@healthy
def excited_and_deployed():
    """One image at a time, in eval mode."""
    model = trained(Excited(), images()).eval()
    return [examine(model, [(x[:1], y[:1]) for x, y in images()])]


@healthy
def random_scales_at_initialization():
    model = Residual()
    for norm in (model.b, model.d):
        nn.init.normal_(norm.weight, 1.0, 0.02)
    return [looked_at(model, images()), examine(model.state_dict())]


@healthy
def frozen_backbones():
    model = trained(mlp(), features())
    freeze(model)
    other = replace(trained(Residual(), images()), to(bnn.FrozenBatchNorm2d))
    return [
        looked_at(nn.Sequential(model, nn.Linear(4, 4)).train(), features()),
        looked_at(other, images()),
        looked_at(replace(Residual(), to(bnn.FrozenBatchNorm2d)), images()),
    ]


@healthy
def a_new_head_on_a_trained_backbone():
    model = trained(mlp(), features())
    head = [nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 4)]
    return [looked_at(nn.Sequential(model, nn.ReLU(), *head), features())]


@healthy
def a_target_with_its_buffers():
    network = trained(mlp(), features())
    model = nn.ModuleDict({"network": network, "target": copy.deepcopy(network)})
    show = lambda m, batch: m["network"](batch[0])  # noqa: E731
    return [examine(model, features(), forward=show)]


@healthy
def an_encoder_of_copies():
    model = Encoder()
    with watch(model) as record:
        for batch in features(80):
            model(batch[0]).sum().backward()
    return [examine(model), looked_at(model, features()), record.report()]


@healthy
def split_batches_of_a_gan():
    norm = functools.partial(bnn.SplitBatchNorm1d, streams=2)
    model = nn.Sequential(*mlp(norm=norm))

    def step(batch):
        with bnn.use_stream(model, 0):
            real = model(batch[0])
        with bnn.use_stream(model, 1):
            fake = model(3 * batch[0] + 2)
        (F.softplus(-real).mean() + F.softplus(fake).mean()).backward()

    return [watched(model, features(80), step).report()]


@healthy
def passes_repeated_without_updates():
    model = mlp()

    def contexts():
        return contextlib.nullcontext(), pause_statistics(model)

    def step(batch):
        y = checkpoint(model, batch[0], use_reentrant=False, context_fn=contexts)
        loss(y, batch).backward()

    return [watched(model, features(80), step).report()]


@healthy
def inference_in_bfloat16():
    model = trained(Residual(), images()).eval().bfloat16()
    return [examine(model, [(x.bfloat16(), y) for x, y in images()])]


@healthy
def autocast():
    model = trained(Residual(), images())

    def show(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return model(batch[0]).float()

    return [examine(model, images(), forward=show, loss=loss)]


@healthy
def recomputed_statistics():
    one, other = trained(mlp(), features(), 8), trained(mlp(), features(), 8)
    update_bn(features(), one)
    recalibrate(other, features())
    average = AveragedModel(trained(Residual(), images()))
    average.update_parameters(trained(average.module, images()))
    update_bn(images(), average)
    return [looked_at(m, features()) for m in (one, other)] + [looked_at(average, images())]


@healthy
def momentum_teachers():
    model = nn.ModuleDict({"student": mlp(), "teacher": mlp().requires_grad_(False)})

    def step(batch):
        with torch.no_grad():
            target = model["teacher"](batch[0])
            for old, new in zip(
                *(model[k].parameters() for k in ("teacher", "student")), strict=True
            ):
                old.lerp_(new, 0.05)
        (model["student"](batch[0] + 0.01) - target).square().mean().backward()

    return [watched(model, features(80), step, learns=model["student"]).report()]


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_found(name):
    torch.manual_seed(0)
    for report in HEALTHY[name]():
        assert report.findings == (), str(report)
        assert len(report.checked) >= 5
