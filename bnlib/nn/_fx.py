"""What makes ``torch.fx`` treat a module as it treats those of ``torch.nn``: as one node."""

from collections import OrderedDict

from torch import nn
from torch.fx import Proxy, Tracer

NO_HOOK = -1
"""The handles of hooks count from 0."""


def is_leaf(module: nn.Module, input: Proxy) -> bool:
    """Whether a node that calls `module` does no more than its forward, which is being traced.

    A node has the hooks called, and the forward of a subclass around ours. The tracer, for which
    only modules of ``torch.nn`` are leaves, records the subclass and the pre-hooks by itself, and
    they would act twice; `leaf` keeps the forward hooks from it. A model that is nothing but
    `module` has no name that a node could call.
    """
    return (
        type(module).forward.__module__.startswith("bnlib.nn.")
        and (not module._forward_hooks or _is_called(module, input.tracer))
        and not any(map(_may_change_input, module._forward_pre_hooks.values()))
        and input.tracer.root is not module
    )


def _is_called(module: nn.Module, tracer: Tracer) -> bool:
    """Whether the tracer is in a call of `module`, and no other code calls its forward alone."""
    return tracer.scope.module_path == tracer.path_of_module(module)


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
            f"torch.fx: cannot record {type(module).__name__}, as it has forward pre-hooks, or a "
            "forward of its own around that of bnlib.nn, or is the whole model, or its forward is "
            "called without its forward hooks; call bnlib.nn.to_torch first, or trace with a "
            "Tracer for which it is a leaf"
        )
    tracer = input.tracer
    target = tracer.path_of_module(module)
    node = tracer.create_proxy("call_module", target, (input, *others), {})
    if module._forward_hooks:
        _leave_hooks_to_the_node(module)
    return node


def _leave_hooks_to_the_node(module: nn.Module) -> None:
    """Keep the forward hooks from the call that is being traced, which reads them after this."""
    hooks = module._forward_hooks

    def put_back(*_: object) -> None:
        module._forward_hooks = hooks

    module._forward_hooks = OrderedDict({NO_HOOK: put_back})
