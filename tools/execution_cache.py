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

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from nbformat import NotebookNode

PACKAGES = ("numpy", "scipy", "matplotlib", "scikit-learn", "mlxtend", "mnist1d", "torch", "numba")


def hash_files(root: Path, *names: str) -> str:
    """Hash the names and contents of files and of everything in folders."""
    digest = hashlib.sha256()
    for path in sorted(p for name in names for p in [root / name, *(root / name).rglob("*")]):
        if path.is_file() and "__pycache__" not in path.parts:  # filled by Python and by Numba
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def fingerprint(root: Path) -> str:
    """Hash everything that a number in the book depends on, apart from the notebook itself."""
    state = [platform.python_version(), hash_files(root, "bnlib", "requirements.txt")]
    for package in PACKAGES:
        try:
            state.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            state.append(f"{package} absent")
    return hashlib.sha256("\n".join(state).encode()).hexdigest()[:16]


def current_cache(root: Path) -> Path:
    """Return the folder of the cache that is valid now, and remove those that are not."""
    folder = root / "_build" / ".jupyter_cache"
    current = folder / fingerprint(root)
    if folder.is_dir():
        for other in folder.iterdir():
            if other != current:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
    return current


def open_cache(root: Path) -> JupyterCacheAbstract:
    """Open the cache that is valid now."""
    cache = get_cache(current_cache(root))
    cache.change_cache_limit(10_000)
    return cache


def keep(cache: JupyterCacheAbstract, notebook: NotebookNode, path: Path, seconds: float) -> None:
    """Put an executed notebook into the cache, in the place of what is there."""
    bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def prepare_kernels(root: Path) -> None:
    """Let kernels import the library of this checkout, and compute with one thread each."""
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
