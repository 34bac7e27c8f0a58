"""The book is never older than the library, and a failure is never forgotten.

A throw-away book of two pages is built with the tools and the configuration of the real one.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from fontTools.ttLib import TTFont
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[2]
EXECUTE = [sys.executable, "tools/execute.py"]
NBVAL = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "book"]
BUILD = [
    shutil.which("jupyter-book", path=Path(sys.executable).parent),
    *("build", ".", "-W", "-n", "--keep-going", "-q"),
]


def write_page(folder, name, *code):
    cells = [new_markdown_cell(f"# {name}\n\nA formula, $x^2$.")] + [new_code_cell(c) for c in code]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "book" / f"{name}.ipynb")


def warnings_of_a_build(folder):
    result = run(folder, BUILD)
    assert result.returncode != 0
    return [line for line in result.stderr.splitlines() if "WARNING" in line or "ERROR" in line]


def add_text(folder, text):
    page = folder / "book" / "index.ipynb"
    notebook = nbformat.read(page, 4)
    notebook.cells[0].source += f"\n\n{text}"
    nbformat.write(notebook, page)


def set_library(folder, value):
    (folder / "bnlib" / "__init__.py").write_text(f"VALUE = {value}\n", "utf8")


@pytest.fixture
def book(tmp_path):
    folders = "tools", "book/_ext", "book/_static", "book/_templates"
    copied = "_config.yml", "CITATION.cff", "requirements.txt", *folders
    for name in (*copied, "book/conftest.py"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n- file: book/other\n", "utf8"
    )
    (tmp_path / "book" / "references.bib").write_text("", "utf8")
    (tmp_path / "bnlib").mkdir()
    set_library(tmp_path, 1.25)
    write_page(tmp_path, "index", "import bnlib\nprint('value', bnlib.VALUE)")
    write_page(tmp_path, "other", "1 + 1")
    return tmp_path


def run(folder, command):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def built(folder, *commands):
    for command in commands:
        result = run(folder, command)
        assert result.returncode == 0, result.stdout + result.stderr


def values_on_page(folder):
    page = (folder / "_build" / "html" / "book" / "index.html").read_text("utf8")
    return re.findall(r"value (\S+)", page)


def test_unchanged_notebook_is_executed_once_and_edits_reach_the_page(book):
    compiled = book / "bnlib" / "__pycache__" / "loops.nbi"  # as Numba does while a notebook runs
    write_page(
        book,
        "other",
        "with open('runs.txt', 'a') as file:\n    print('run', file=file)",
        f"from pathlib import Path\nPath({str(compiled)!r}).parent.mkdir(exist_ok=True)\n"
        f"Path({str(compiled)!r}).touch()",
    )
    built(book, EXECUTE, BUILD, EXECUTE)
    assert (book / "book" / "runs.txt").read_text("utf8") == "run\n"
    assert values_on_page(book) == ["1.25"]

    set_library(book, 2.5)
    (book / "book" / "_static" / "bn.css").write_text("p { color: green; }", "utf8")
    built(book, BUILD)
    assert values_on_page(book) == ["2.5"]
    assert "green" in (book / "_build" / "html" / "_static" / "bn.css").read_text("utf8")


def test_notebook_that_nbval_executed_is_not_executed_again(ledger):
    # `ledger`: outputs with metadata, which the build needs
    page = ledger / "book" / "other.ipynb"
    notebook = nbformat.read(page, 4)
    notebook.cells.append(new_code_cell("with open('runs.txt', 'a') as f: print('run', file=f)"))
    nbformat.write(notebook, page)
    built(ledger, [*NBVAL, "--keep-outputs"], EXECUTE, BUILD)
    assert (ledger / "book" / "runs.txt").read_text("utf8") == "run\n"
    assert values_on_page(ledger) == ["1.25"]
    assert "More of it. supported other" in rows_on_page(ledger)


def test_notebook_that_failed_in_nbval_is_executed_again(book):
    write_page(book, "other", "number = 1", "assert number == 2", "number = 2")
    assert run(book, [*NBVAL, "--keep-outputs"]).returncode == 1
    result = run(book, EXECUTE)
    assert "unchanged  book/index.ipynb" in result.stdout.replace("\\", "/")
    assert "FAILED     book/other.ipynb" in result.stdout.replace("\\", "/")


def test_nbval_alone_leaves_nothing_behind(book):
    write_page(book, "index", "1 + 1")
    assert run(book, NBVAL).returncode == 0
    assert not (book / "_build").exists()


def test_site_lists_its_pages_and_leads_back_from_any_wrong_address(book, monkeypatch):
    monkeypatch.setenv("BOOK_BASE_URL", "https://a.org/b")
    built(book, EXECUTE, BUILD)
    html = book / "_build" / "html"
    assert '<base href="https://a.org/b/">' in (html / "404.html").read_text("utf8")
    assert '<base href="book/index.html">' in (html / "index.html").read_text("utf8")
    urls = re.findall("<loc>(.*?)</loc>", (html / "sitemap.xml").read_text("utf8"))
    assert {"https://a.org/b/book/index.html", "https://a.org/b/book/other.html"} <= {*urls}
    assert not [url for url in urls if "404" in url or "search" in url]
    assert (html / "robots.txt").read_text("utf8") == "Sitemap: https://a.org/b/sitemap.xml\n"
    page = (html / "book" / "other.html").read_text("utf8")
    assert '<meta property="og:image" content="https://a.org/b/_static/card.png" />' in page
    assert (html / "_static" / "card.png").read_bytes().startswith(b"\x89PNG")
    assert 'content="https://a.org/b/book/other.html"' in page
    assert page.count('rel="stylesheet"') == 1
    assert not re.findall(r"<script(?![^>]* defer)[^>]* src=", page)
    (font,) = html.rglob("fa-solid-900.woff2")
    note, menu, toggle, unused = 0xF05A, 0xF0C9, 0xF107, 0xF72F
    drawn = TTFont(font).getBestCmap()
    assert {note, menu, toggle} <= drawn.keys()
    assert unused not in drawn


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two cores")
def test_notebooks_are_executed_at_the_same_time(book):
    meet = (
        "import pathlib, time\n"
        "pathlib.Path({mine!r}).touch()\n"
        "end = time.monotonic() + 60\n"
        "while not pathlib.Path({theirs!r}).exists():\n"
        "    assert time.monotonic() < end\n"
        "    time.sleep(0.01)"
    )
    write_page(book, "index", meet.format(mine="a.txt", theirs="b.txt"))
    write_page(book, "other", meet.format(mine="b.txt", theirs="a.txt"))
    result = run(book, EXECUTE)
    assert result.returncode == 0, result.stderr


def test_failing_cell_fails_the_execution_every_time(book):
    write_page(book, "other", "number = 1", "assert number == 2, 'not two'")
    for _ in range(2):
        result = run(book, EXECUTE)
        assert result.returncode == 1
        assert "FAILED     book/other.ipynb" in result.stdout.replace("\\", "/")
        assert "AssertionError: not two" in result.stderr
        assert "executed   book/index.ipynb" in result.stdout or "unchanged" in result.stdout


# ------------------------------------------------------------------ the ledger of claims

CLAIMS = """\
- claim: More of it.
  source: everybody
  verdict: more
  measured: difference
  where: "{ref}`shown`"
- {claim: Less of it., source: nobody, where: "planned: *Less*"}
"""
TABLES = "```{claims} claims.yml\n```\n\n```{claims} claims.yml\n:show: tested\n```"
DELIVERED = """\
import bnlib
from bnlib.experiments.records.ledger import glue_verdict
from bnlib.experiments.records.verdict import paired_verdict
effect = FACTOR * bnlib.VALUE
glue_verdict("more", paired_verdict("More.", "", [effect - 0.08, effect + 0.08] * 8, [0] * 16, 0.5))
"""


@pytest.fixture
def ledger(book):
    """Return the book, with tables of claims on one page and their verdict on another."""
    records = Path("bnlib", "experiments", "records")
    (book / records).mkdir(parents=True)
    (book / records.parent / "__init__.py").touch()
    for name in ("__init__.py", "verdict.py", "ledger.py", "store.py", "cache.py", "provenance.py"):
        shutil.copy(ROOT / records / name, book / records)
    shutil.copy(ROOT / "bnlib" / "_extras.py", book / "bnlib")
    interval = Path("bnlib", "measure", "interval.py")
    (book / interval.parent).mkdir()
    (book / interval.parent / "__init__.py").touch()
    shutil.copy(ROOT / interval, book / interval)
    (book / "book" / "claims.yml").write_text(CLAIMS, "utf8")
    (book / "book" / "claims.md").write_text(f"# Claims\n\n{TABLES}\n", "utf8")
    with (book / "_toc.yml").open("a", encoding="utf8") as toc:
        toc.write("- file: book/claims\n")
    deliver(book, DELIVERED.replace("FACTOR", "1"))
    return book


def deliver(folder, code):
    write_page(folder, "other", code)
    page = folder / "book" / "other.ipynb"
    page.write_text(page.read_text("utf8").replace('"# other', '"(shown)=\\n# other'), "utf8")


def rows_on_page(folder):
    """Return the text of each row of the tables, and of the card, on the page of claims."""
    page = (folder / "_build" / "html" / "book" / "claims.html").read_text("utf8")
    parts = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    parts += re.findall(r'<div class="claim .*?seeds.*?</div>', page, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", part).split()) for part in parts]


def test_tables_of_claims_follow_the_chapter_and_the_library(ledger):
    design = "16 seeds, 95 % intervals, margin 0.5"
    built(ledger, BUILD)
    _, short, planned, full = rows_on_page(ledger)
    assert short == "More of it. supported other"
    assert planned == "Less of it. planned planned: Less"
    assert full == (
        "More of it. supported Who says so: everybody Where: other "
        f"Measured: difference 1.250 (1.206 to 1.294) {design}"
    )
    page = (ledger / "_build" / "html" / "book" / "claims.html").read_text("utf8")
    assert 'href="other.html' in page

    deliver(ledger, DELIVERED.replace("FACTOR", "-1"))  # the page with the tables has not changed
    set_library(ledger, 2.5)
    built(ledger, BUILD)
    _, short, _, full = rows_on_page(ledger)
    assert short == "More of it. refuted other"
    assert "-2.500 (-2.544 to -2.456)" in full


def test_each_fault_fails_the_build_every_time(ledger):
    deliver(ledger, DELIVERED.replace("FACTOR", "1").replace('"more"', '"unlisted"'))
    write_page(ledger, "index", "raise ValueError('broken')")
    add_text(ledger, "{ref}`nowhere`")
    with (ledger / "book" / "claims.md").open("a", encoding="utf8") as page:
        page.write("\nFound: {multiverse}`more`.\n")
    for _ in range(2):
        found = "\n".join(warnings_of_a_build(ledger))
        assert "index.ipynb: WARNING: Executing notebook failed" in found
        assert "undefined label: 'nowhere'" in found
        assert "no chapter delivered the verdict 'more'" in found
        assert "no multiverse is stored for the claim 'more'" in found
        assert "the verdict 'unlisted' is in no table of claims" in found


STORE = """{"factors": [], "cells": [%s]}"""
CELL = """{"setting": {"the depth": "%s"}, "fields": {}, "reason": "", "verdicts": [{"case": [],
"effect": %s, "low": %s, "high": "inf", "margin": 0.5, "answer": "%s", "seeds": 8, "reason": ""}],
"made": {"date": "2020-02-20", "seconds": 60, "processor": "abacus", "versions": {"bnlib": "1"}}}"""


def test_multiverse_of_a_claim_is_the_headline_of_its_card(ledger):
    folder = ledger / "book" / "_data" / "multiverse"
    folder.mkdir(parents=True)
    cells = [CELL % ("2", 1.0, 0.9, "supported"), CELL % ("8", 0.6, 0.4, "undecided")]
    (folder / "more.json").write_text(STORE % ",".join(cells), "utf8")
    with (ledger / "book" / "claims.md").open("a", encoding="utf8") as page:
        page.write("\nFound: {multiverse}`more`.\n")
    built(ledger, BUILD)
    _, short, *_ = rows_on_page(ledger)
    assert short == "More of it. supported other"
    page = (ledger / "_build" / "html" / "book" / "claims.html").read_text("utf8")
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Over many settings: supported in 1 of 2 settings, undecided in 1 ." in text
    assert "Found: supported in 1 of 2 settings" in text
    assert "the depth: 8 \N{RIGHTWARDS ARROW} undecided, at least 0.60 (0.40)" in text
    assert "Computed 2020-02-20 on abacus with bnlib 1, in 2 minutes; 8 seeds a setting." in text
    assert "In the chapter's own setting: supported" in text.replace(
        "\N{RIGHT SINGLE QUOTATION MARK}", "'"
    )
    assert page.count('<svg class="forest" role="img"') == 1


@pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "node_modules" / "katex").is_dir(),
    reason="formulas are set at build time only with Node.js and KaTeX",
)
def test_wrong_formula_fails_the_build(book):
    (book / "node_modules").symlink_to(ROOT / "node_modules")
    add_text(book, r"$\nomacro{x}$")
    assert any("Undefined control sequence" in line for line in warnings_of_a_build(book))


def test_faulty_list_of_claims_fails_the_build(ledger):
    (ledger / "book" / "claims.yml").write_text(CLAIMS.replace("measured", "unheard"), "utf8")
    result = run(ledger, BUILD)
    assert result.returncode != 0
    assert "unheard" in result.stderr
