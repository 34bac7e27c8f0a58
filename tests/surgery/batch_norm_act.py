"""Batch norms as libraries of models and users write them: frozen, or with more behind them."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class BatchNormAct2d(nn.BatchNorm2d):
    """As timm's: torch's forward written out, then the children `drop` and `act`."""

    def __init__(self, num_features, act_layer=nn.ReLU, drop_layer=None, **options):
        super().__init__(num_features, **options)
        self.drop = nn.Identity() if drop_layer is None else drop_layer()
        self.act = nn.Identity() if act_layer is None else act_layer(inplace=True)

    def forward(self, x):
        momentum = self.momentum or 0.0
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        by_batch = self.training or self.running_mean is None
        tracked = not self.training or self.track_running_stats
        x = F.batch_norm(
            x,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            self.weight,
            self.bias,
            by_batch,
            momentum,
            self.eps,
        )
        return self.act(self.drop(x))


class BatchNormReLU(nn.BatchNorm2d):
    """Calls a function where the one above has a child."""

    def forward(self, x):
        return super().forward(x).relu()


class Contiguous(nn.BatchNorm2d):
    """Adds nothing to the function."""

    def forward(self, x):
        return super().forward(x.contiguous())


class Noisy(nn.BatchNorm2d):
    """Differs from a batch norm in train mode only."""

    def forward(self, x):
        y = super().forward(x)
        return y + 0.1 * torch.randn_like(y) if self.training else y


class Unused(BatchNormAct2d):
    """Has the attributes, but does not call them."""

    def forward(self, x):
        return nn.BatchNorm2d.forward(self, x)


class Before(BatchNormAct2d):
    """Calls them before it normalizes."""

    def forward(self, x):
        return nn.BatchNorm2d.forward(self, self.act(self.drop(x)))


class Frozen(nn.Module):
    """As torchvision's and detectron2's: four buffers and no counter."""

    def __init__(self, num_features, eps=1e-5):
        super().__init__()
        self.eps = eps
        for name in ("weight", "running_var"):
            self.register_buffer(name, torch.ones(num_features))
        for name in ("bias", "running_mean"):
            self.register_buffer(name, torch.zeros(num_features))

    def forward(self, x):
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * scale.view(shape) + shift.view(shape)
