"""The notebooks for readers: nothing of Sphinx is left, and exercises have no solutions."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pages import notebooks

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))

from execution_cache import prepare_kernels  # noqa: E402
from jupyter_markdown import FORMS, Book, printed  # noqa: E402
from jupyter_notebooks import INSTALL, derive, glued_in, install_cell, write  # noqa: E402

BOOK = Book(ROOT)
every_chapter = pytest.mark.parametrize("page", list(BOOK.notebooks))
FOREIGN = re.compile(
    r"\{[a-z][\w:-]*\}`"  # a role
    r"|^`{3,}\{(?!admonition\} .*\n:class: dropdown\n).*"  # a directive, but for a fold
    r"|^\([\w-]+\)=$"  # a label
    r"|^:(?!class: dropdown$)\w+: .*"  # an option
    r"|^ *\$\$ .*|\b(?:eq|fig|thm|ex|sol|ch)-[a-z]+-\w+",
    re.MULTILINE,
)


def text_of(notebook):
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


# ------------------------------------------------------------------ every chapter


@pytest.mark.parametrize("form", FORMS)
@every_chapter
def test_nothing_of_sphinx_is_left(page, form):
    made = derive(BOOK, page, form)
    nbformat.validate(made)
    assert FOREIGN.findall(text_of(made)) == []
    assert code_of(made) == code_of(BOOK.notebooks[page])


def test_what_sphinx_alone_understands_would_be_found():
    source = text_of(BOOK.notebooks["backward_pass"])
    for kind in ("eq", "term", "numref", "cite:t", "prf:ref", "ref"):
        assert f"{{{kind}}}`" in FOREIGN.findall(source)
    for left in ("```{note}", "(ch-a)=", ":name: fig", "$$ (eq-a)", "see fig-small-one"):
        assert FOREIGN.search(left)


@pytest.mark.parametrize("page", [Path(entry).name for entry in notebooks(numbered=True)])
def test_exercises_have_no_solutions_and_no_outputs(page):
    chapter, made = derive(BOOK, page, "plain"), derive(BOOK, page, "plain", exercises=True)
    assert "### Solution" in text_of(chapter)
    assert "### Solution" not in text_of(made)
    assert not any(cell.get("outputs") for cell in made.cells)
    headings = re.findall(r"^### Exercise .*", text_of(made), re.MULTILINE)
    assert headings == re.findall(r"^### Exercise .*", text_of(chapter), re.MULTILINE)
    assert len(headings) >= 3


@every_chapter
def test_exercises_use_no_name_that_a_solution_defined(page, tmp_path):
    nbformat.write(derive(BOOK, page, "plain", exercises=True), tmp_path / f"{page}.ipynb")
    assert undefined_names(tmp_path) == ""


def test_an_undefined_name_would_be_found(tmp_path):
    cells = [new_code_cell("x = 1"), new_code_cell("print(x, right)")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
    assert "right" in undefined_names(tmp_path)


def undefined_names(folder):
    options = ["--isolated", "--no-cache", "--quiet", "--select", "F821"]
    command = [sys.executable, "-m", "ruff", "check", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@every_chapter
def test_figures_of_a_fold_do_not_show_before_it(page):
    output = new_output("display_data", {"text/html": "<svg>"})
    ran = [new_code_cell(outputs=[output]) for _ in code_of(BOOK.notebooks[page])]
    made = derive(BOOK, page, "plain", code=ran)
    folds = re.findall(r"<details>.*?</details>", text_of(made), re.DOTALL)
    in_folds = set(re.findall(r"^\*\*(Fig\. [\d.]+):", "\n".join(folds), re.MULTILINE))
    without = [c.source for c in made.cells if c.cell_type == "code" and not c.outputs]
    figures = {name: words for name, (_, words) in BOOK.targets.items() if "Fig." in words}
    assert {figures[n] for n in figures if any(f'"{n}"' in c for c in without)} == in_folds
    assert len(without) == len(in_folds)


# ------------------------------------------------------------------ a made-up book

CHAPTER = r"""
(ch-one)=
# One

See {ref}`two <ch-two>`, {ref}`ch-two`, {eq}`eq-one-a`, {eq}`eq-two-a`, {numref}`fig-one-a`,
{prf:ref}`thm-one-a`, {ref}`ex-one-1`, {term}`layers <layer>`, {py:func}`bnlib.f`,
[two](two.ipynb), {cite:t}`a2020`, {cite:p}`a2020, b2021`,
{glue:text}`one-x:.2f` and {glue:text}`one-y`.

$$
x
= y
$$ (eq-one-a)

- An item

  $$
  x
  $$

```{math}
:label: eq-one-b
y
```

```{prf:theorem} A title
:label: thm-one-a
It is so.
```

```{prf:proof}
See {eq}`eq-one-b`.
```

````{admonition} Show the answer
:class: dropdown

```{glue:figure} fig-one-a
:name: fig-one-a
It rises by {glue:text}`one-x:.1f`.
```
````
"""
PLAIN = r"""# One

See [two](two.ipynb), [Two](two.ipynb), (1.1), [(2.1)](two.ipynb), Fig. 1.1,
Theorem 1.1, Exercise 1.1, layers, `bnlib.f`,
[two](two.ipynb), Ada and Bob (2020), (Ada and Bob, 2020; Ada et al., 2021),
0.25 and `one-y`.

$$
x
= y
\tag{1.1}
$$

- An item

  $$
  x
  $$

$$
y
\tag{1.2}
$$

***

**Theorem 1.1** (A title).
It is so.

***

*Proof.* See (1.2).

∎

<details>
<summary>Show the answer</summary>

**Fig. 1.1:** (Run the cell above to see it.) It rises by 0.2.

</details>"""
EXERCISE = """\
## Exercises

```{exercise-start} First
:label: ex-one-1
```

Compute.

```{exercise-end}
```

```{solution-start} ex-one-1
:label: sol-one-1
:class: dropdown
```

It is two.
"""
END = "```{solution-end}\n```\n\n## Summary\n\n- Done."
BIBLIOGRAPHY = """\
@book{a2020,
  author = {Ada, A. and Bob, B.}, title = {First}, publisher = {P}, year = {2020},
}

@book{b2021,
  author = {Ada, A. and Bob, B. and Cox, C.}, title = {Second}, publisher = {P}, year = {2021},
}
"""


@pytest.fixture
def folder(tmp_path):
    toc = "format: jb-book\nroot: book/index\nparts:\n- numbered: true\n  chapters:\n"
    (tmp_path / "_toc.yml").write_text(f"{toc}  - file: book/one\n  - file: book/two\n", "utf8")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").write_text("# Index\n", "utf8")
    (tmp_path / "book" / "references.bib").write_text(BIBLIOGRAPHY, "utf8")
    figure = new_code_cell('show(fig, "fig-one-a", alt=alt)', metadata={"tags": ["hide-input"]})
    texts = CHAPTER.strip(), figure, EXERCISE, new_code_cell("x = 1 + 1"), END
    cells = [new_markdown_cell(each) if isinstance(each, str) else each for each in texts]
    nbformat.write(new_notebook(cells=cells), tmp_path / "book" / "one.ipynb")
    cells = [new_markdown_cell("(ch-two)=\n# Two\n\n$$\na\n$$ (eq-two-a)")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "book" / "two.ipynb")
    return tmp_path


def test_text_has_the_numbers_and_links_of_the_page(folder):
    made = derive(Book(folder, {"one-x": "0.25"}), "one", "plain")
    assert made.cells[0].source == PLAIN


def test_folded_cell_is_folded_with_its_output(folder):
    path = folder / "book" / "one.ipynb"
    path.write_text(path.read_text("utf8").replace("hide-input", "hide-cell"), "utf8")
    (cell,) = (c for c in derive(Book(folder), "one", "plain").cells if "show(" in c.source)
    assert cell.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}


def test_numbers_are_set_as_on_the_page():
    assert printed("3.0e-11") == "$3.0 \\times 10^{\N{MINUS SIGN}11}$"
    assert printed("-2.6 of a-1") == "\N{MINUS SIGN}2.6 of a-1"


def test_jupyterlab_myst_gets_the_forms_that_it_shows(folder):
    source = derive(Book(folder), "one", "myst").cells[0].source
    assert "\\begin{equation*}\nx\n= y\n\\tag{1.1}\n\\end{equation*}" in source
    assert "  \\begin{equation*}\n  x\n  \\end{equation*}" in source
    assert "`````{admonition} Show the answer\n:class: dropdown\n\n**Fig. 1.1:**" in source
    assert "$$" not in source
    assert "<details>" not in source


def test_other_pages_are_linked_on_the_web_where_they_are_there(folder):
    source = derive(Book(folder, site="https://a.org/b/"), "one", "plain").cells[0].source
    assert "[Two](https://a.org/b/book/two.html)" in source
    assert "one.html" not in source


def test_solution_is_folded_and_ends_at_a_heading(folder):
    cells = derive(Book(folder), "one", "plain").cells
    (at,) = [i for i, cell in enumerate(cells) if cell.source == "### Solution"]
    assert cells[at].metadata["jp-MarkdownHeadingCollapsed"] is True
    after = [cell.source.split("\n")[0] for cell in cells[at + 1 :]]
    assert after == ["It is two.", "x = 1 + 1", "## Summary", "## Sources"]
    exercises = derive(Book(folder), "one", "plain", exercises=True).cells
    assert [c.source for c in exercises if c.source.startswith(("It is", "x =", "### S"))] == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("## Summary", "Summary", "has to follow a solution"),
        ("{term}`", "{unheard}`", "role 'unheard'"),
        ("{prf:proof}", "{unheard}", "directive 'unheard'"),
    ],
)
def test_what_has_no_form_is_an_error(folder, old, new, message):
    path = folder / "book" / "one.ipynb"
    path.write_text(path.read_text("utf8").replace(old, new), "utf8")
    with pytest.raises(ValueError, match=message):
        derive(Book(folder), "one", "plain")


def test_outputs_are_shown_but_not_what_was_glued(folder):
    record = "application/papermill.record/text/plain"
    glued = new_output("display_data", {record: "0.25"}, metadata={"scrapbook": {"name": "one-x"}})
    shown = new_output("display_data", {"text/plain": "<figure>"})
    ran = new_code_cell("", execution_count=3, outputs=[glued, shown])
    assert dict(glued_in([ran])) == {"one-x": "0.25"}
    cells = derive(Book(folder), "one", "plain", code=[new_code_cell(""), ran]).cells
    (cell,) = [cell for cell in cells if cell.source == "x = 1 + 1"]
    assert (cell.outputs, cell.execution_count) == ([shown], 3)


def test_a_fold_holds_its_figure(folder):
    svg = '<svg aria-label="It rises."></svg>'
    made = derive(Book(folder, {"fig-one-a": svg}), "one", "plain")
    (fold,) = re.findall(r"<details>.*?</details>", text_of(made), re.DOTALL)
    alt, data = re.search(r'<img alt="(.*)" src="data:image/svg\+xml;base64,(.*)">', fold).groups()
    assert (alt, base64.b64decode(data).decode()) == ("It rises.", svg)
    assert "Run the cell above" not in fold


def test_cells_hide_what_the_page_hides(folder):
    path = folder / "book" / "one.ipynb"
    path.write_text(path.read_text("utf8").replace("hide-input", "hide-output"), "utf8")
    for expected in ({"outputs_hidden": True}, {"source_hidden": True}):
        cells = derive(Book(folder), "one", "plain").cells
        (cell,) = [cell for cell in cells if cell.source.startswith("show(")]
        assert cell.metadata["jupyter"] == expected
        path.write_text(path.read_text("utf8").replace("hide-output", "hide-input"), "utf8")


def test_the_reader_s_changes_are_kept(folder):
    made, path = derive(Book(folder), "one", "plain"), folder / "notebooks" / "one.ipynb"
    assert write(made, path)
    assert write(made, path)  # nothing has been changed

    reader = nbformat.read(path, as_version=4)
    reader.cells[-1].source = "my answer"
    nbformat.write(reader, path)
    assert not write(made, path)
    assert nbformat.read(path, as_version=4).cells[-1].source == "my answer"


@pytest.mark.parametrize("page", ["backward_pass"])
def test_exercises_run_from_top_to_end(page):
    made = derive(BOOK, page, "plain", exercises=True)
    prepare_kernels(ROOT)
    NotebookClient(made, timeout=120).execute()  # raises the error of a cell that fails
    assert [cell for cell in made.cells if cell.cell_type == "code"][-1].execution_count > 10


def test_commit_is_installed_only_where_a_repository_is_known(monkeypatch, folder):
    monkeypatch.delenv("BOOK_REPOSITORY_URL", raising=False)
    assert install_cell(folder) == ""
    monkeypatch.setenv("BOOK_REPOSITORY_URL", "https://a.org/b")
    monkeypatch.setenv("BOOK_REPOSITORY_BRANCH", "trunk")
    assert "git+https://a.org/b@trunk" in install_cell(folder)  # no clone, so no commit


def test_published_notebook_installs_its_commit(folder):
    install = INSTALL.format(repository="https://a.org/b", commit="abc")
    made = derive(Book(folder), "one", "plain", install=install)
    assert '"batchnorm-book[notebooks] @ git+https://a.org/b@abc"' in code_of(made)[0]
    assert "install" not in json.dumps(derive(Book(folder), "one", "plain"))


def test_unknown_argument_is_named():
    command = [sys.executable, str(ROOT / "tools" / "jupyter_notebooks.py"), "exercise"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "expected nothing or exercises, got exercise\n"
