"""What conversions in place share: which layers they may take, and classes made at run time."""

from collections.abc import Callable, Container
from typing import Any

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize


def named_modules(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules of what has to be a module."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    return list(module.named_modules())


def refuse_lazy(layers: dict[str, nn.Module], kind: str) -> None:
    """Raise ValueError if one of the layers has no parameters yet."""
    for name, layer in layers.items():
        if isinstance(layer, LazyModuleMixin):
            raise ValueError(
                f"module: expected no lazy {kind} without parameters, got {name or 'one'!r}; "
                "run one mini-batch before the conversion"
            )


def refuse_paused(layers: dict[str, nn.Module]) -> None:
    """Raise ValueError within `bnlib.surgery.pause_statistics`, which puts the old class back."""
    for name, layer in layers.items():
        if is_paused(layer):
            raise ValueError(
                f"{name or 'the model'} has its statistics paused: leave pause_statistics first"
            )


def is_paused(layer: nn.Module) -> bool:
    """Whether `bnlib.surgery.pause_statistics` keeps the running statistics of a layer."""
    return hasattr(type(layer), "paused_from")


def replaces_forward(cls: type, ends: Container[type]) -> bool:
    """Whether `cls` has a forward of its own that never, or not always, goes on to the next class.

    Classes are looked at until one of `ends`. The forward of a relative in this package (ghost
    batches, renormalization, ...) takes its statistics itself in train mode.
    """
    for base in cls.__mro__:
        if base in ends or base.__module__.startswith("torch.nn.modules."):
            return False
        code = getattr(vars(base).get("forward"), "__code__", None)
        relative = base.__module__.startswith("bnlib.nn.")
        if code is not None and (relative or "__class__" not in code.co_freevars):  # no super()
            return True
    return False


def made_by(make: Callable[[type], type], cls: type) -> dict[str, Any]:
    """Return what the class `make(cls)` needs for layers to be pickled: no name leads to it."""
    return {"made_by": (make, cls), "__reduce__": _reduce}


def made_from(cls: type, *makes: Callable[[type], type]) -> type | None:
    """Return the class that one of `makes` has made `cls` of, or None."""
    make, former = vars(cls).get("made_by", (None, None))
    return former if make in makes else None


def is_parametrized(cls: type) -> bool:
    """Whether `torch.nn.utils.parametrize` has made `cls`, for one layer, to hold properties."""
    return cls.__module__ == parametrize.__name__


def parametrized(cls: type, base: type) -> type:
    """Return `cls`, for which `is_parametrized` holds, on another base."""
    return type(f"Parametrized{base.__name__}", (base,), dict(vars(cls)))


def _reduce(self: nn.Module) -> tuple[Any, ...]:
    return _blank, _recipe(type(self)), self.__getstate__()


def _recipe(cls: type) -> tuple[Any, ...]:
    """Return a class that has a name, and what was made of it, one after the other."""
    if "made_by" not in vars(cls):
        return (cls,)
    make, former = cls.made_by
    return *_recipe(former), make


def _blank(cls: type, *makes: Callable[[type], type]) -> nn.Module:
    for make in makes:
        cls = make(cls)
    return cls.__new__(cls)
