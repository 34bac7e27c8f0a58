"""Derive the notebooks that readers open from the chapters: in Jupyter, on Colab, as exercises.

Usage: ``python tools/jupyter_notebooks.py [exercises]``

The chapters go to ``_build/notebooks``, with their solutions folded and with what
``tools/execute.py`` computed; the exercises go to ``_build/exercises``, without solutions and
outputs. A notebook that its reader has changed is kept.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from execution_cache import open_cache
from jupyter_markdown import ROOT, Book
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

SOLUTION = re.compile(r"^(`{3,}\{solution-(?:start|end)\}.*\n(?::.*\n)*`{3,})$", re.MULTILINE)
FOLD = re.compile(
    r"^(`{3,})\{admonition\}[^\n]*\n:class: dropdown[^\n]*\n(.*?)^\1$", re.MULTILINE | re.DOTALL
)
RECORD = "application/papermill.record/"  # what `glue` keeps in the outputs
NOTE = "*This notebook is made from a chapter of the book. Run the folded cell of imports first.* "
CHAPTER = "*The numbers in its text come from the book's own run. Solutions are folded.*"
EXERCISES = "*It has no solutions: write your answers into the cells below the exercises.*"
INSTALL = """\
# Where the library of the book is missing, for example on Colab, install it.
try:
    import bnlib.exercises
except ImportError:
    %pip install -q "batchnorm-book[notebooks] @ git+{repository}@{commit}"
"""


def executed(root: Path, notebooks: dict[str, NotebookNode]) -> dict[str, list[NotebookNode]]:
    """Map each chapter that has been executed to its code cells, with their outputs."""
    cache, found = open_cache(root), {}
    for page, notebook in notebooks.items():
        try:
            record = cache.match_cache_notebook(notebook)
        except KeyError:
            continue
        cells = cache.get_cache_bundle(record.pk).nb.cells
        found[page] = [cell for cell in cells if cell.cell_type == "code"]
    return found


def glued_in(cells: list[NotebookNode]) -> Iterator[tuple[str, str]]:
    """Find what code cells have glued: names, and values as Python literals or SVG."""
    for output in (output for cell in cells for output in cell.outputs):
        name = output.get("metadata", {}).get("scrapbook", {}).get("name")
        if name:
            plain = output.data.get(f"{RECORD}text/plain")
            yield name, output.data.get(f"{RECORD}text/html", plain)


def derive(
    book: Book, page: str, form: str, *, exercises: bool = False, code=(), install: str = ""
) -> NotebookNode:
    """Return a chapter as a notebook for readers.

    `code` has its executed cells, if there are any; `install` is the first cell, if it needs one.
    """
    source = book.notebooks[page]
    text = "\n\n".join(cell.source for cell in source.cells if cell.cell_type == "markdown")
    folded = " ".join(body for _, body in FOLD.findall(text))
    ran = iter(code)
    cells, after_solution = [], False
    for part, name, solved in parts_of(source):
        outputs = next(ran, None) if isinstance(part, NotebookNode) else None
        if solved and exercises:
            continue
        if isinstance(part, NotebookNode):
            made = code_cell(part, folded, None if exercises else outputs)
        elif solved and SOLUTION.match(part):  # folds what follows, up to a heading of this rank
            fold = {"jp-MarkdownHeadingCollapsed": True, "id": name}
            made = new_markdown_cell("### Solution", metadata=fold, id=name)
        else:
            made = new_markdown_cell(book.to_jupyter(part, page, form), id=name)
        if after_solution and not solved and not made.source.startswith("#"):
            raise ValueError(f"{page}: a heading or an exercise has to follow a solution")
        after_solution = solved
        if made.source:
            cells.append(made)
    note = NOTE + (EXERCISES if exercises else CHAPTER)
    cells.insert(1, new_markdown_cell(note, id="made-from"))
    if install:
        cells.insert(2, new_code_cell(install, id="install"))
    if "{cite:" in text:
        cells.append(new_markdown_cell(book.bibliography(text), id="sources"))
    folds = [cell.metadata.id for cell in cells if "id" in cell.metadata]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    about = {
        "kernelspec": kernel,
        "language_info": {"name": "python"},
        "colab": {"collapsed_sections": folds},
    }
    return new_notebook(cells=cells, metadata=about)


def parts_of(source: NotebookNode) -> Iterator[tuple[NotebookNode | str, str, bool]]:
    """Cut the text where a solution begins or ends; say of each part whether it is in one.

    The directive that begins a solution is a part of its own, and the one that ends it is left out.
    """
    solved = False
    for cell in source.cells:
        if cell.cell_type == "code":
            yield cell, cell.id, solved
            continue
        for i, part in enumerate(SOLUTION.split(cell.source)):
            if marker := SOLUTION.match(part):
                solved = "{solution-start}" in part
            if part.strip() and (solved or not marker):
                yield part, f"{cell.id}-part-{i}" if i else cell.id, solved


def code_cell(cell: NotebookNode, folded: str, ran: NotebookNode | None) -> NotebookNode:
    """Return a cell that hides what the page hides, without the figures that are in a fold."""
    tags = cell.metadata.get("tags", [])
    metadata, hidden = {"tags": tags}, {}
    if {"hide-input", "hide-cell"} & {*tags}:
        metadata["cellView"] = "form"  # on Colab
        hidden["source_hidden"] = True
    if {"hide-output", "hide-cell"} & {*tags}:
        hidden["outputs_hidden"] = True
    made = new_code_cell(cell.source, id=cell.id, metadata={**metadata, "jupyter": hidden})
    figures = re.findall(r'\bshow\(\s*\w+,\s*"([\w-]+)"', cell.source)
    if ran and not any(f"{{glue:figure}} {name}\n" in folded for name in figures):
        made.execution_count = ran.execution_count
        made.outputs = [o for o in ran.outputs if not any(RECORD in k for k in o.get("data", ()))]
    return made


def write(notebook: NotebookNode, path: Path) -> bool:
    """Write a notebook, unless the reader has changed the one that is there."""
    if path.exists():
        old = nbformat.read(path, as_version=4)
        if old.metadata.get("made") != hash_sources(old):
            return False
    notebook.metadata["made"] = hash_sources(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return True


def hash_sources(notebook: NotebookNode) -> str:
    """Hash what a reader may have written."""
    return hashlib.sha256("\0".join(cell.source for cell in notebook.cells).encode()).hexdigest()


def write_all(
    root: Path, folders: dict[bool, Path], form: str, site: str = "", *, pages=(), install: str = ""
) -> None:
    """Write chapters (False) and exercises (True), all or those of some pages, into folders."""
    book = Book(root, site=site)
    code = executed(root, book.notebooks)
    if missing := book.notebooks.keys() - code.keys():
        print(f"not executed, so that names stand for numbers there: {', '.join(sorted(missing))}")
    book.glued = dict(pair for cells in code.values() for pair in glued_in(cells))
    install = install or install_cell(root)
    for page in pages or book.notebooks:
        for exercises, folder in folders.items():
            ran = code.get(page, ())
            made = derive(book, page, form, exercises=exercises, code=ran, install=install)
            if not write(made, folder / f"{page}.ipynb"):
                print(f"kept as you have changed it: {folder / page}.ipynb")


def install_cell(root: Path) -> str:
    """Return the cell that installs the library, if the environment names the repository."""
    repository = os.environ.get("BOOK_REPOSITORY_URL")
    if not repository:
        return ""
    commit = commit_of(root) or os.environ.get("BOOK_REPOSITORY_BRANCH", "main")
    return INSTALL.format(repository=repository, commit=commit).rstrip()


def commit_of(root: Path) -> str:
    """Return the commit of a clone; of anything else, nothing."""
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    what = sys.argv[1:]
    if what not in ([], ["exercises"]):
        sys.exit(f"expected nothing or exercises, got {' '.join(what)}")
    if what:
        write_all(ROOT, {True: ROOT / "_build" / "exercises"}, "myst")
    else:
        write_all(ROOT, {False: ROOT / "_build" / "notebooks"}, "myst")
