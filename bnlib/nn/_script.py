"""What ``torch.jit.script`` makes of a layer: torch's operation, or a sentence."""

from collections.abc import Callable
from typing import NoReturn

import torch.nn.functional as F  # noqa: N812
from torch import nn

Method = Callable[..., object]


def scripted_as(method: Method) -> Callable[[Method], Method]:
    """Let ``torch.jit.script`` compile `method` of torch's class in the place of the decorated one.

    TorchScript compiles the source of what ``__wrapped__`` leads to, as for every decorated
    function, and looks for the names in it where the decorated one was defined.
    """

    def mark(own: Method) -> Method:
        own.__wrapped__ = method
        own.__globals__.setdefault("F", F)
        return own

    return mark


def refuse(
    instead: str = "use torch.jit.trace or torch.export.export, in eval mode",
) -> Callable[[nn.Module], NoReturn]:
    """Return a ``__prepare_scriptable__``, which ``torch.jit.script`` calls, that says why not."""

    def prepare(self: nn.Module) -> NoReturn:
        name = type(self).__name__
        raise NotImplementedError(f"torch.jit.script: cannot compile {name}; {instead}")

    return prepare
