"""Build a JupyterLite site: the exercises of the chapters that a browser runs, without a server.

Usage: ``python tools/lite.py JUPYTER_LITE [PYODIDE]``, or ``make lite [PYODIDE=...]``

`JUPYTER_LITE` is the command of that name, `PYODIDE` a release of Pyodide (archive or folder). With
it, the site asks no other host: Pyodide itself comes from npm, and of the release only what our
notebooks need is taken, if it has the hash in npm's copy of the lock file. Without it, the reader's
browser loads Pyodide from its own host. The site goes to ``_build/lite``.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from jupyter_notebooks import ROOT, write_all

CHAPTERS = (  # the only list of them: the links of the pages and the tests read it, too
    "a_network_learns",
    "motivation",
    "forward_pass",
    "backward_pass",
    "inference",
    "convolution",
    "internal_covariate_shift",
    "learning_rate_and_convergence",
    "depth_and_signal_propagation",
    "regularization",
)
STAGE, SITE = ROOT / "_build" / "lite_stage", ROOT / "_build" / "lite"
CORE = ROOT / "node_modules" / "pyodide"
LOCK = "pyodide-lock.json"
CORE_FILES = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", LOCK)
PURE = ("comm", "mlxtend", "mnist1d")  # Pyodide's release has none of them; the kernel needs comm
RELEASED = (
    *("micropip", "ipython", "jedi"),  # the kernel asks for them
    *("numpy", "scipy", "tqdm", "matplotlib", "scikit-learn", "pillow", "joblib"),
    *("pandas", "requests"),  # mlxtend and mnist1d ask for them
)
KERNEL = "@jupyterlite/pyodide-kernel-extension"
SETTINGS = {
    "jupyter-lite-schema-version": 0,
    "jupyter-config-data": {
        "appName": "Batch Normalization: exercises",
        "litePluginSettings": {f"{KERNEL}:kernel": {"disablePyPIFallback": True}},
    },
}
INSTALL = """\
# In the browser, install the library of the book and what it needs: this takes a while.
# Long experiments are smaller there than in the book. They say so; their verdicts may differ.
import sys

if sys.platform == "emscripten":
    %pip install -q "batchnorm-book[book]\""""


def released_files(lock: dict) -> dict[str, str]:
    """Map the files of `RELEASED`, and of what they depend on, to their SHA-256."""
    wanted, found = [*RELEASED], {}
    while wanted:
        package = lock["packages"][wanted.pop()]
        if package["file_name"] not in found:
            found[package["file_name"]] = package["sha256"]
            wanted += package["depends"]
    return found


def read(release: Path, names: set[str]) -> Iterator[tuple[str, bytes]]:
    """Read files of these names from an archive or a folder."""
    if release.is_dir():
        yield from ((p.name, p.read_bytes()) for p in release.rglob("*") if p.name in names)
        return
    with tarfile.open(release, "r|*") as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and name in names:
                yield name, archive.extractfile(member).read()


def host_pyodide(core: Path, release: Path, folder: Path) -> None:
    """Copy Pyodide's core, and from a release what the notebooks need, if its hash is right."""
    folder.mkdir(parents=True)
    for name in CORE_FILES:
        shutil.copy(core / name, folder)
    files = released_files(json.loads((core / LOCK).read_text("utf8")))
    for name, data in read(release, {*files}):
        if hashlib.sha256(data).hexdigest() != files[name]:
            raise ValueError(f"{release}: {name} is not the file that Pyodide's lock file names")
        (folder / name).write_bytes(data)
    if missing := sorted(name for name in files if not (folder / name).exists()):
        raise FileNotFoundError(f"{release} lacks {', '.join(missing)}")


def gather_wheels(folder: Path) -> None:
    """Build our wheel, and download the pure ones."""
    python = [sys.executable, "-m"]
    pins = [f"--constraint=requirements{which}.txt" for which in ("", "-lite")]
    pure = ["--no-deps", "--only-binary=:all:", *pins, "--dest", str(folder), *PURE]
    download = [*python, "pip", "--disable-pip-version-check", "download", "--quiet", *pure]
    subprocess.run(download, cwd=ROOT, check=True)
    build = [*python, "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, stdout=subprocess.DEVNULL, check=True)
    names = [path.name for path in folder.iterdir()]
    if strangers := [name for name in names if not name.endswith("-py3-none-any.whl")]:
        raise ValueError(f"no wheels that run in a browser: {', '.join(strangers)}")


def stage(folder: Path, release: Path | None) -> None:
    """Write what JupyterLite builds a site from."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pypi").mkdir(parents=True)
    (folder / "jupyter-lite.json").write_text(json.dumps(SETTINGS), "utf8")
    site = os.environ.get("BOOK_BASE_URL", "")
    write_all(ROOT, {True: folder / "files"}, "plain", site, pages=CHAPTERS, install=INSTALL)
    gather_wheels(folder / "pypi")
    if release:
        host_pyodide(CORE, release, folder / "static" / "pyodide")


def check_version(site: Path, core: Path) -> None:
    """Refuse a Pyodide of another version than the kernel was made for."""
    version = json.loads((core / "package.json").read_text("utf8"))["version"]
    schema = site / "extensions" / KERNEL / "static" / "schema" / "kernel.v0.schema.json"
    if f"/v{version}/" not in schema.read_text("utf8"):
        raise ValueError(f"the kernel is not made for Pyodide {version}, which package.json names")


def main(jupyter_lite: str, release: Path | None = None) -> None:
    """Build the site anew."""
    stage(STAGE, release)
    shutil.rmtree(SITE, ignore_errors=True)
    lean = ["--apps=lab", "--no-sourcemaps", "--no-unused-shared-packages"]
    folders = [f"--lite-dir={STAGE}", f"--output-dir={SITE}"]
    command = os.path.abspath(shutil.which(jupyter_lite) or jupyter_lite)  # it runs in the stage
    subprocess.run([command, "build", *folders, *lean], cwd=STAGE, check=True)
    if release:
        check_version(SITE, CORE)
    else:
        print("Pyodide is not in it: browsers will load it from its own host (PYODIDE=...).")
    print(f"The site: {SITE}; show it with `python -m http.server --directory {SITE}`.")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], *(Path(name).resolve() for name in sys.argv[2:]))
