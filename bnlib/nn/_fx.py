"""What makes ``torch.fx`` treat a module as it treats those of ``torch.nn``: as one node."""

from torch import nn
from torch.fx import Proxy


def leaf(module: nn.Module, input: Proxy, *others: object) -> Proxy:
    """Record a call of `module` on a value that is being traced, and others."""
    tracer = input.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input, *others), {})
