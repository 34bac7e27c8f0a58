"""What numbers depend on beside their config: versions, and the source of the library."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import bnlib

PACKAGES = ("numpy", "scipy", "scikit-learn", "mlxtend", "mnist1d")
"""What the numbers of an experiment depend on, beside the library and Python."""


def versions() -> dict[str, str]:
    """Return the versions that numbers depend on.

    Returns
    -------
    dict of str to str
        Of Python, bnlib, and each of `PACKAGES` that is installed.
    """
    found = {"python": platform.python_version(), "bnlib": bnlib.__version__}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@lru_cache(maxsize=1)
def library_source() -> str:
    """Hash the source of all modules of `bnlib`.

    Returns
    -------
    str
        SHA-256, in hexadecimal digits; computed once in a process, as modules are imported once.
    """
    root, digest = Path(bnlib.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
