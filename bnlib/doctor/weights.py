"""Files of weights for the command line: only tensors are read, so that no file can run code."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bnlib._extras import require


def state_dict(file: str, argument: str) -> dict[str, Tensor]:
    """Return the state dict in a file: its content, or the one entry that is one.

    Raises ValueError, which begins with the name of the argument, if there is none, or several.
    """
    content = _read(Path(file), argument)
    inner: dict[str, dict[str, Tensor]] = {}
    if isinstance(content, Mapping):
        inner = {key: own for key, value in content.items() if (own := _tensors(value))}
    if len(inner) > 1:
        raise ValueError(
            f"{argument}: {file} holds several state dicts, {', '.join(map(repr, inner))}; save "
            f"the one to examine, such as torch.save(checkpoint[{next(iter(inner))!r}], FILE)"
        )
    found = next(iter(inner.values()), None) or _tensors(content)
    if found:  # tensors beside an entry are numbers, or a random state
        return found
    first = ", ".join(map(repr, [*content][:5])) if isinstance(content, Mapping) else ""
    keys = f" with the keys {first}" if first else ""
    raise ValueError(
        f"{argument}: {file} holds no state dict but a {type(content).__name__}{keys}; "
        "save model.state_dict()"
    )


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the entries that a state dict has, none if it is something else."""
    entries = content.items() if isinstance(content, Mapping) else ()
    return {k: v for k, v in entries if isinstance(k, str) and isinstance(v, Tensor)}


def _read(path: Path, argument: str) -> Any:
    """Return what a file of weights holds, of one by torch only if that is data."""
    if not path.is_file():
        raise ValueError(f"{argument}: there is no file {path}")
    read: Callable[..., Any] = torch.load
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    if path.suffix == ".safetensors":
        require("safetensors", extra="doctor")
        from safetensors.torch import load_file

        read, options = load_file, {}
    try:
        with warnings.catch_warnings(action="ignore"):  # of a TorchScript archive
            return read(path, **options)
    except OSError as error:
        raise ValueError(f"{argument}: {error}") from None
    except Exception as error:  # of a file that is none of torch, KeyError and EOFError too
        raise ValueError(f"{argument}: {path} {_fault(str(error))}") from error


def _fault(error: str) -> str:
    """Say what is wrong with a file, from what `torch.load` says."""
    if "TorchScript" in error:
        return "is a TorchScript archive; save torch.jit.load(FILE).state_dict()"
    if refused := re.search(r"GLOBAL (\S+)", error):
        return (
            f"holds a {refused[1]}, which is not read, as it could run code; if you trust it, "
            "load the file with torch.load(FILE, weights_only=False) and save only the state dict"
        )
    return "is no file of weights, or a damaged one"
