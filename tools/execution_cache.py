"""Where the outputs of the executed notebooks are kept, and when they are out of date.

Jupyter's cache knows a notebook by the text of its cells. The numbers also depend on
the library and on the versions of what it stands on, so each state of those has a cache of its own:
an edit in `bnlib/` never shows old numbers, whatever command builds the book.
"""

import hashlib
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

PACKAGES = ("numpy", "scipy", "matplotlib", "scikit-learn", "mlxtend", "mnist1d", "torch")


def fingerprint(root: Path) -> str:
    """Hash everything that a number in the book depends on, apart from the notebook itself."""
    digest = hashlib.sha256(platform.python_version().encode())
    for package in PACKAGES:
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = "absent"
        digest.update(f"{package}=={version}\n".encode())
    library = (p for p in (root / "bnlib").rglob("*") if p.is_file() and p.suffix != ".pyc")
    for path in sorted([root / "requirements.txt", *library]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def current_cache(root: Path) -> Path:
    """Return the folder of the cache that is valid now, and remove those that are not."""
    folder = root / "_build" / ".jupyter_cache"
    current = folder / fingerprint(root)
    if folder.is_dir():
        for other in folder.iterdir():
            if other != current:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
    return current


def prepare_kernels(root: Path) -> None:
    """Let kernels import the library of this checkout, and compute with one thread each."""
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
