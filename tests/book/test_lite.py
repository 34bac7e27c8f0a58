"""The site of exercises in the browser has its chapters, its wheels, and the right Pyodide."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import bnnotebooks  # noqa: E402
import lite  # noqa: E402

NODE = shutil.which("node")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
NEEDED = [
    Requirement(line)
    for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["book"])
]
pyodide = pytest.mark.skipif(
    not NODE or not lite.CORE.exists(), reason="Node.js or Pyodide (`npm ci`) is not installed"
)


def test_what_the_first_cell_installs_is_all_in_the_site():
    assert {need.name for need in NEEDED} <= {*lite.PURE, *lite.RELEASED}


@pyodide
def test_pyodide_has_versions_that_the_library_takes():
    packages = json.loads((lite.CORE / lite.LOCK).read_text("utf8"))["packages"]
    assert not {*lite.PURE} & packages.keys()
    for need in NEEDED:
        if need.name not in lite.PURE:
            assert packages[need.name]["version"] in need.specifier, need


@pyodide
def test_pyodide_has_versions_that_the_pure_wheels_take():
    packages = json.loads((lite.CORE / lite.LOCK).read_text("utf8"))["packages"]
    needed = [Requirement(line) for name in lite.PURE for line in metadata.requires(name) or ()]
    needed = [need for need in needed if need.marker is None]
    assert needed
    for need in needed:
        assert packages[need.name]["version"] in need.specifier, need


@pyodide
def test_core_of_pyodide_imports_what_needs_no_other_package():
    script = Path(__file__).with_name("import_in_pyodide.mjs")
    done = subprocess.run(
        [NODE, str(script), str(lite.CORE), str(ROOT / "bnlib")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    version, count, said = done.stdout.split(maxsplit=2)
    assert version.startswith("3.")
    assert int(count) == len([*(ROOT / "bnlib").rglob("*.py")])
    assert said.strip() == "bnlib (not PyTorch, which is not at hand here)"


def test_notebooks_are_those_of_the_chapters_and_install_only_in_a_browser(tmp_path, monkeypatch):
    monkeypatch.setattr(lite, "gather_wheels", lambda folder: None)
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "old").write_text("", "utf8")
    lite.stage(tmp_path / "stage", None)
    assert not (tmp_path / "stage" / "old").exists()
    made = {path.stem: path for path in (tmp_path / "stage" / "files").iterdir()}
    assert made.keys() == {*lite.CHAPTERS}
    for path in made.values():
        cells = nbformat.read(path, 4).cells
        assert not any("### Solution" in cell.source for cell in cells)
        first = next(cell.source for cell in cells if cell.cell_type == "code")
        *_, condition, install = first.split("\n")
        assert condition == 'if sys.platform == "emscripten":'
        assert re.fullmatch(r' +%pip install -q "batchnorm-book\[book\]"', install)


def test_site_asks_no_package_index(tmp_path, monkeypatch):
    monkeypatch.setattr(lite, "gather_wheels", lambda folder: None)
    monkeypatch.setattr(lite, "write_all", lambda *_, **__: None)
    lite.stage(tmp_path / "stage", None)
    settings = json.loads((tmp_path / "stage" / "jupyter-lite.json").read_text("utf8"))
    (kernel,) = settings["jupyter-config-data"]["litePluginSettings"].values()
    assert kernel["disablePyPIFallback"] is True


def test_site_is_built_by_a_command_that_a_relative_path_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lite, "STAGE", tmp_path / "stage")
    monkeypatch.setattr(lite, "SITE", tmp_path / "site")
    monkeypatch.setattr(lite, "stage", lambda folder, release: folder.mkdir())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "lite").write_text('#!/bin/sh\necho "$1" > built\n', "utf8")
    (tmp_path / "bin" / "lite").chmod(0o755)
    lite.main("bin/lite")
    assert (tmp_path / "stage" / "built").read_text("utf8") == "build\n"


@pytest.mark.parametrize("folder", ["", "lite"])
def test_pages_link_exactly_the_chapters_that_run_there(monkeypatch, folder):
    monkeypatch.setenv("BOOK_LITE", folder)
    pages = [path.name for path in (ROOT / "book").glob("*.ipynb")]
    links = {page: bnnotebooks._lite(page, lambda target, kind: f"../{target}") for page in pages}
    assert {Path(page).stem for page in links if links[page]} == (
        {*lite.CHAPTERS} if folder else set()
    )
    if folder:
        (link,) = links["inference.ipynb"]
        assert link["url"] == "../lite/lab/index.html?path=inference.ipynb"


# ------------------------------------------------------------------ the release of Pyodide


@pytest.fixture
def core(tmp_path, monkeypatch):
    """A Pyodide whose package `one` depends on `two`, and of which we need `one`."""
    monkeypatch.setattr(lite, "RELEASED", ("one",))
    folder = tmp_path / "core"
    folder.mkdir()
    for name in lite.CORE_FILES:
        (folder / name).write_text(name, "utf8")
    depends = {"one": ["two"], "two": ["one"], "three": []}
    packages = {
        name: {
            "file_name": f"{name}.whl",
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "depends": others,
        }
        for name, others in depends.items()
    }
    (folder / lite.LOCK).write_text(json.dumps({"packages": packages}), "utf8")
    return folder


def release(path, form, **contents):
    """Write the files of a release, as an archive or as a folder."""
    if form == "folder":
        (path / "pyodide").mkdir(parents=True)
        for name, text in contents.items():
            (path / "pyodide" / f"{name}.whl").write_text(text, "utf8")
        return path
    with tarfile.open(path, "w:bz2") as archive:
        for name, text in contents.items():
            member = tarfile.TarInfo(f"pyodide/{name}.whl")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_of_a_release_only_what_is_needed_is_taken(tmp_path, core, form):
    made = release(tmp_path / "made", form, one="one", two="two", three="three", pyodide="other")
    lite.host_pyodide(core, made, tmp_path / "site" / "pyodide")
    names = {path.name for path in (tmp_path / "site" / "pyodide").iterdir()}
    assert names == {*lite.CORE_FILES, "one.whl", "two.whl"}
    assert (tmp_path / "site" / "pyodide" / "two.whl").read_text("utf8") == "two"


def test_changed_file_of_a_release_is_refused(tmp_path, core):
    made = release(tmp_path / "made", "archive", one="one", two="changed")
    with pytest.raises(ValueError, match=r"two\.whl is not the file"):
        lite.host_pyodide(core, made, tmp_path / "site")
    assert not (tmp_path / "site" / "two.whl").exists()


def test_what_a_release_lacks_is_named(tmp_path, core):
    made = release(tmp_path / "made", "archive", one="one")
    with pytest.raises(FileNotFoundError, match=r"lacks two\.whl"):
        lite.host_pyodide(core, made, tmp_path / "site")


def test_pyodide_of_another_version_than_the_kernel_wants_is_refused(tmp_path):
    schema = tmp_path / "extensions" / lite.KERNEL / "static" / "schema" / "kernel.v0.schema.json"
    schema.parent.mkdir(parents=True)
    schema.write_text('"https://a.org/pyodide/v1.2.3/full/pyodide.mjs"', "utf8")
    for version, right in (("1.2.3", True), ("1.2.4", False)):
        (tmp_path / "package.json").write_text(json.dumps({"version": version}), "utf8")
        if right:
            lite.check_version(tmp_path, tmp_path)
        else:
            with pytest.raises(ValueError, match=r"not made for Pyodide 1\.2\.4"):
                lite.check_version(tmp_path, tmp_path)
