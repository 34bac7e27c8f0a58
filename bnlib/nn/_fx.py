"""What makes ``torch.fx`` treat a module as it treats those of ``torch.nn``: as one node."""

from torch import nn
from torch.fx import Proxy


def is_leaf(module: nn.Module, input: Proxy) -> bool:
    """Whether a node that calls `module` does no more than its forward, which is being traced.

    A node has the hooks called, and the forward of a subclass around ours. The tracer, for which
    only modules of ``torch.nn`` are leaves, records both by itself, and they would act twice. A
    model that is nothing but `module` has no name that a node could call.
    """
    return (
        type(module).forward.__module__.startswith("bnlib.nn.")
        and not module._forward_hooks
        and not any(map(_may_change_input, module._forward_pre_hooks.values()))
        and input.tracer.root is not module
    )


def _may_change_input(hook: object) -> bool:
    """Those of ``torch.nn.utils`` (pruning, spectral norm) set parameters only."""
    return not getattr(hook, "__module__", "").startswith("torch.nn.utils.")


def leaf(module: nn.Module, input: Proxy, *others: object) -> Proxy:
    """Record a call of `module` on a value that is being traced, and others.

    Raises
    ------
    NotImplementedError
        If the call would do more than what is being traced, see `is_leaf`.
    """
    if not is_leaf(module, input):
        raise NotImplementedError(
            f"torch.fx: cannot record {type(module).__name__}, as it has hooks, or a forward of "
            "its own around that of bnlib.nn, or is the whole model; call bnlib.nn.to_torch first, "
            "or trace with a Tracer for which it is a leaf"
        )
    tracer = input.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input, *others), {})
