"""Build the wheel, use it in a fresh environment as it is, and run a notebook against it there.

Usage: ``python tests/helpers/check_wheel.py``, or ``make wheel``. It takes some minutes: first the
wheel is installed with the extra `torch` only, then with what a notebook needs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAN_USE = ROOT / "tests" / "helpers" / "lean_use.py"
NOTEBOOK = ROOT / "book" / "motivation.ipynb"  # needs no PyTorch
RUN = """
import pathlib, sys
import nbclient, nbformat

notebook = nbformat.read(sys.argv[1], as_version=4)
where = nbformat.v4.new_code_cell("import bnlib\\nprint(bnlib.__file__)")
notebook.cells.insert(0, where)
nbclient.NotebookClient(notebook, timeout=300).execute()
library = pathlib.Path(notebook.cells[0].outputs[0].text.strip())
assert library.is_relative_to(sys.prefix), f"{library} is not the installed wheel"
print("ran", sys.argv[1], "with", library)
"""


LEAN = """
from importlib import metadata
import sys, bnlib

installed = {each.name.lower() for each in metadata.distributions()}
assert bnlib.__file__.startswith(sys.prefix), f"{bnlib.__file__} is not the installed wheel"
assert {"numpy", "scipy", "tqdm", "torch"} <= installed
others = {"matplotlib", "scikit-learn", "pillow", "mlxtend", "mnist1d", "joblib", "numba"}
assert not installed & others, f"the extra torch brought {installed & others}"
"""


def build(folder: Path) -> Path:
    """Build the wheel and check that it holds the library, all of it, and nothing else."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [*ROOT.glob("bnlib/**/*.py"), *ROOT.glob("bnlib/**/*.mplstyle")]
    expected = {path.relative_to(ROOT).as_posix() for path in files} | {"bnlib/py.typed"}
    if strangers := {name for name in names if not name.startswith("bnlib/")}:
        sys.exit(f"The wheel holds more than bnlib: {sorted(strangers)}")
    if missing := expected - names:
        sys.exit(f"The wheel lacks {sorted(missing)}")
    return wheel


def main() -> None:
    """Run the whole check."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        wheel = build(folder)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        install += ["-c", ROOT / "requirements.txt"]

        def run(*command: str | Path) -> None:
            subprocess.run(command, check=True, env=environment, cwd=folder)

        shutil.copy(LEAN_USE, folder)
        run(*install, f"{wheel}[torch]")
        run(python, "-c", LEAN)
        run(python, "-W", "error", LEAN_USE.name)
        shutil.copy(NOTEBOOK, folder)
        run(*install, f"{wheel}[book]", "ipykernel", "myst-nb", "nbclient")
        run(python, "-c", RUN, NOTEBOOK.name)


if __name__ == "__main__":
    main()
