"""Small networks of the kinds that people train, data for them, and the training.

Each network takes `norm`, a function of the number of channels, and whether the layers before the
norms have a bias, so that a fault is an argument.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bnlib.datasets import digits, mnist1d

Batch = tuple[Tensor, Tensor]
CLASSES = 10


class ResNet(nn.Module):
    """Images of 8 by 8; blocks with functional calls, and a zero-initialized last scale."""

    def __init__(
        self,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        *,
        bias: bool = False,
        width: int = 8,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=bias)
        self.norm = norm(width)
        self.blocks = nn.ModuleList(
            [Residual(norm, width, width, bias), Residual(norm, width, 2 * width, bias)]
        )
        self.drop = nn.Dropout2d(drop)
        self.head = nn.Linear(2 * width, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.drop(self.stem(x))))
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Residual(nn.Module):
    """The basic block: the second norm stands before the sum."""

    def __init__(self, norm: Callable[[int], nn.Module], c_in: int, c_out: int, bias: bool) -> None:
        super().__init__()
        stride = c_out // c_in
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=bias)
        self.norm1 = norm(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=bias)
        self.norm2 = norm(c_out)
        self.short = nn.Conv2d(c_in, c_out, 1, stride) if stride > 1 else nn.Identity()
        if getattr(self.norm2, "weight", None) is not None:
            nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.short(x))


class MLP(nn.Sequential):
    """Images of 8 by 8 as 64 features, as tabular models have them."""

    def __init__(
        self,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
        *,
        bias: bool = False,
        width: int = 32,
        drop: float = 0.0,
    ) -> None:
        super().__init__(nn.Flatten())
        for d_in in (64, width):
            self.append(nn.Linear(d_in, width, bias=bias))
            if drop:
                self.append(nn.Dropout(drop))
            self.append(norm(width))
            self.append(nn.ReLU())
        self.append(nn.Linear(width, CLASSES))


class Tabular(nn.Sequential):
    """An MLP that standardizes its features by a norm."""

    def __init__(self, features: int = 64, width: int = 32) -> None:
        super().__init__(
            nn.Flatten(),
            nn.BatchNorm1d(features),
            nn.Linear(features, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, CLASSES),
        )


class SequenceNet(nn.Module):
    """Signals of 40 samples; convolutions along time, then the mean over time."""

    def __init__(
        self,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
        *,
        bias: bool = False,
        width: int = 16,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, width, 5, padding=2, bias=bias)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2, bias=bias)
        self.norm1, self.norm2 = norm(width), norm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.max_pool1d(x, 2)
        return self.head(F.relu(self.norm2(self.conv2(x))).mean(2))


class UNet(nn.Module):
    """Images of 8 by 8, down to one pixel and up again; the task is to remove noise."""

    def __init__(
        self,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        *,
        bias: bool = False,
        width: int = 8,
        depth: int = 3,
    ) -> None:
        super().__init__()
        c = [width * 2**i for i in range(depth + 1)]
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(c[i], c[i + 1], 3, 2, 1, bias=bias) for i in range(depth)
        )
        self.up = nn.ModuleList(
            nn.Conv2d(c[i + 1] + c[i], c[i], 3, 1, 1, bias=bias) for i in range(depth)
        )
        self.norms_down = nn.ModuleList(norm(c[i + 1]) for i in range(depth))
        self.norms_up = nn.ModuleList(norm(c[i]) for i in range(depth))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        skips = []
        for conv, norm in zip(self.down, self.norms_down, strict=True):
            skips.append(x)
            x = F.relu(norm(conv(x)))
        for conv, norm, skip in reversed([*zip(self.up, self.norms_up, skips, strict=True)]):
            x = torch.cat([F.interpolate(x, scale_factor=2), skip], 1)
            x = F.relu(norm(conv(x)))
        return self.head(x)


class Discriminator(nn.Sequential):
    """That of a DCGAN, for images of 8 by 8: real or fake."""

    def __init__(
        self,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        *,
        bias: bool = False,
        width: int = 16,
    ) -> None:
        super().__init__(
            nn.Conv2d(1, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=bias),
            norm(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 2),
            nn.Flatten(),
        )


class Generator(nn.Sequential):
    """That of a DCGAN, for images of 8 by 8."""

    def __init__(
        self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d, *, latent: int = 8, width: int = 16
    ) -> None:
        super().__init__(
            nn.Unflatten(1, (latent, 1, 1)),
            nn.ConvTranspose2d(latent, 2 * width, 4, 1, 0, bias=False),
            norm(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, 1, 4, 2, 1),
        )


@functools.cache
def images() -> Batch:
    """Return the digits of scikit-learn as images (n, 1, 8, 8) from 0 to 1."""
    data = digits(flat=False)
    return torch.tensor(data.x_train).float(), torch.tensor(data.y_train)


@functools.cache
def signals() -> Batch:
    """Return MNIST-1D, 4,000 signals (n, 1, 40)."""
    data = mnist1d(flat=False)
    return torch.tensor(data.x_train).float(), torch.tensor(data.y_train)


def noisy(data: Batch) -> Batch:
    """Return images with noise, and the images without as the target."""
    x = data[0]
    return x + torch.randn(x.shape, generator=generator(1)) / 2, x


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cut(data: Batch, m: int = 32, count: int = 8, seed: int = 0) -> list[Batch]:
    """Return so many random mini-batches, as a data loader that shuffles yields them."""
    x, y = data
    order = torch.randperm(len(x), generator=generator(seed))
    return [(x[i], y[i]) for i in order[: m * count].split(m)]


def loss_of(output: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy for labels, squared error for images."""
    target = batch[1]
    if target.is_floating_point():
        return F.mse_loss(output, target)
    return F.cross_entropy(output, target)


def train(
    model: nn.Module, batches: Iterable[Batch], optimizer: torch.optim.Optimizer | None = None
) -> nn.Module:
    """Train in train mode, one step a mini-batch; return the model in eval mode."""
    optimizer = optimizer or adam(model)
    model.train()
    for batch in batches:
        optimizer.zero_grad()
        loss_of(model(batch[0]), batch).backward()
        optimizer.step()
    return model.eval()


def adam(model: nn.Module, rate: float = 5e-3) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(parameters, rate)


STEPS = 150
DATA: dict[type[nn.Module], Callable[[], Batch]] = {
    ResNet: images,
    MLP: images,
    SequenceNet: signals,
    UNet: lambda: noisy(images()),
}


NORM: dict[type[nn.Module], Callable[..., nn.Module]] = {
    ResNet: nn.BatchNorm2d,
    MLP: nn.BatchNorm1d,
    SequenceNet: nn.BatchNorm1d,
    UNet: nn.BatchNorm2d,
}


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return what `make` builds, with the same random numbers each time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def build(kind: type[nn.Module], **options: Any) -> nn.Module:
    """Return an untrained network; the same weights for the same options."""
    return seeded(lambda: kind(**options))


def norms(model: nn.Module) -> list[nn.Module]:
    """Return the batch norms of a model."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def batches(kind: type[nn.Module], m: int = 32, count: int = 8, seed: int = 1) -> list[Batch]:
    """Return mini-batches for a kind of network."""
    return cut(DATA[kind](), m, count, seed)


def trained(kind: type[nn.Module], **options: Any) -> nn.Module:
    """Return a network after `STEPS` steps on mini-batches of 32, in eval mode."""
    try:
        return copy.deepcopy(_trained(kind, tuple(sorted(options.items()))))
    except TypeError:  # options that cannot be hashed
        return _train_new(kind, options)


@functools.lru_cache(maxsize=64)
def _trained(kind: type[nn.Module], options: tuple[tuple[str, Any], ...]) -> nn.Module:
    return _train_new(kind, dict(options))


def _train_new(kind: type[nn.Module], options: dict[str, Any]) -> nn.Module:
    with torch.random.fork_rng():
        model = build(kind, **options)
        torch.manual_seed(1)
        data = DATA[kind]()
        rounds = [cut(data, count=min(STEPS, len(data[0]) // 32), seed=s) for s in range(10)]
        return train(model, [batch for each in rounds for batch in each][:STEPS])
