"""Small versions of real architectures, written with torch.nn."""

import torch
from random_inputs import SEED
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class BasicBlock(nn.Module):
    """He et al. (2016)."""

    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential(
            nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out)
        )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.blocks = nn.Sequential(BasicBlock(6, 6), BasicBlock(6, 8, stride=2))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Sandler et al. (2018): expand, depthwise convolution, project."""

    def __init__(self, channels, expansion=3):
        super().__init__()
        wide = channels * expansion
        self.branch = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return x + self.branch(x)


class MobileNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.Hardswish(),
            InvertedResidual(4),
            InvertedResidual(4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(4, 5),
        )


def double_conv(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Ronneberger et al. (2015), with batch norms after the transposed convolutions."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = double_conv(2, 4), double_conv(4, 8)
        self.pool = nn.MaxPool2d(2)
        self.bottom = double_conv(8, 8)
        self.up2 = nn.Sequential(nn.ConvTranspose2d(8, 4, 2, stride=2), nn.BatchNorm2d(4))
        self.up1 = nn.Sequential(
            nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
            nn.BatchNorm2d(4),
        )
        self.merge2, self.merge1 = double_conv(12, 8), double_conv(8, 4)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        skip1 = self.down1(x)
        skip2 = self.down2(self.pool(skip1))
        x = self.bottom(self.pool(skip2))
        x = self.merge2(torch.cat([skip2, self.up2(x)], dim=1))
        x = self.merge1(torch.cat([skip1, self.up1(x)], dim=1))
        return self.head(x)


class MLP(nn.Sequential):
    """Batch norms after a linear layer, with a dropout between, and before one."""

    def __init__(self):
        super().__init__(
            nn.Linear(12, 10),
            nn.BatchNorm1d(10),
            nn.Sigmoid(),
            nn.Linear(10, 9, bias=False),
            nn.Dropout(0.5),
            nn.BatchNorm1d(9, affine=False),
            nn.ReLU(),
            nn.BatchNorm1d(9),
            nn.Linear(9, 5),
        )


class VideoNet(nn.Sequential):
    """Convolutions over time and space."""

    def __init__(self):
        super().__init__(
            nn.Conv3d(1, 4, (1, 3, 3), padding=(0, 1, 1)),
            nn.BatchNorm3d(4, eps=1e-3),
            nn.ReLU(),
            nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0), groups=2, bias=False),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.AvgPool3d(2),
            nn.BatchNorm3d(4),
            nn.Conv3d(4, 3, 2),
        )


class Audio(nn.Sequential):
    """One axis, and a decoder."""

    def __init__(self):
        super().__init__(
            nn.Conv1d(2, 6, 5, stride=2, dilation=2, padding=3, padding_mode="circular"),
            nn.BatchNorm1d(6),
            nn.GELU(),
            nn.BatchNorm1d(6),
            nn.Conv1d(6, 6, 3, padding="same", padding_mode="reflect"),
            nn.Tanh(),
            nn.ConvTranspose1d(6, 2, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm1d(2),
        )


class EarlyExit(nn.Module):
    """Repeats a block until the activations are small: the values decide, so torch.fx cannot."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
        self.loud = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.quiet = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, bias=False))
        self.repeated = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        x = self.stem(x)
        x = self.loud(x) if x.mean() > 0 else self.quiet(x)
        for _ in range(2):
            x = self.repeated(x)
        return {"features": x, "score": x.mean((1, 2, 3))}


SHAPES = {
    ResNet: (3, 9, 9),
    MobileNet: (3, 8, 8),
    UNet: (2, 8, 8),
    MLP: (12,),
    VideoNet: (1, 4, 6, 6),
    Audio: (2, 16),
}
"""Architectures that torch.fx can trace, with the shape of one example."""

ALL_SHAPES = SHAPES | {EarlyExit: (3, 6, 6)}


def build(architecture, seed=0, dtype=torch.float64, *, hard=True):
    """Return a model in eval mode, with random statistics; negative and zero weights if `hard`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed + SEED)
        model = architecture().to(dtype)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                randomize(module, hard=hard)
    return model.eval()


def randomize(batch_norm, *, hard=True):
    batch_norm.running_mean.normal_()
    batch_norm.running_var.uniform_(0.05, 3)
    if batch_norm.weight is not None:
        nn.init.normal_(batch_norm.weight, std=1.5)
        if batch_norm.bias is not None:
            nn.init.normal_(batch_norm.bias)
        if hard:
            with torch.no_grad():
                batch_norm.weight[0] = 0
                batch_norm.weight[1:2] = -1


def example(architecture, m=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed + SEED)
    shape = (m, *ALL_SHAPES[architecture])
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
