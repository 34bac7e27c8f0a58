"""A product of matrices that autocast leaves in the dtype of its factors."""

import torch
from torch import Tensor


def exact(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b in the dtype of both, also where autocast would round them to 8 bits."""
    device = a.device.type
    if not torch.amp.is_autocast_available(device):  # meta
        return a @ b
    with torch.autocast(device, enabled=False):
        return a @ b
