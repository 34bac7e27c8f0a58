"""The book as one document: names are unique, links lead to the right place, folds are open."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import bnbook  # noqa: E402
import pdf  # noqa: E402

PAGE = """<nav><a href="#">Menu</a></nav><article class="bd-article">
<section id="one"><h1>1. <i>One</i> &amp; all<a class="headerlink" href="#one">#</a></h1>
<a href="#one">here</a> <a href="two.html#there">there</a> <a href="api/nn.html">library</a>
<a href="https://a.org/b#c">web</a>
<a class="reference internal" href="../_modules/x.html#y">[source]</a>
<img src="../_images/a.png"> <svg aria-labelledby="t"><use href="#g"/><g clip-path="url(#c)"/></svg>
<details class="admonition hide above-input">
<summary>
<p class="collapsed admonition-title">Imports</p>
</summary>
import numpy</details>
<details class="admonition hide below-input"><summary>Output</summary>2</details>
</section></article>"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "one.html").write_text(PAGE, "utf8")
    return tmp_path


def test_links_lead_to_pages_of_the_document(folder):
    text = pdf.article("book/one", folder, ["book/one", "book/two"], "https://a.org/")
    assert '<section class="page" id="one--">' in text
    assert '<section id="one--one">' in text
    assert '<a href="#one--one">here</a>' in text
    assert '<a href="#two--there">there</a>' in text
    assert '<a href="https://a.org/book/api/nn.html">library</a>' in text
    assert '<a href="https://a.org/b#c">web</a>' in text
    assert "Menu" not in text


def test_link_to_a_page_that_is_left_out_is_none_without_a_site(folder):
    text = pdf.article("book/one", folder, ["book/one"])
    assert "<a >there</a> <a >library</a>" in text


def test_parts_of_a_drawing_keep_their_names(folder):
    text = pdf.article("book/one", folder, ["book/one"])
    assert '<svg aria-labelledby="one--t"><use href="#one--g"/>' in text
    assert "url(#one--c)" in text
    assert '<img src="_images/a.png">' in text


def test_outputs_are_open_and_plumbing_is_left_out(folder):
    text = pdf.article("book/one", folder, ["book/one"])
    assert "<details open" in text
    assert "<summary>Output</summary>2" in text
    assert "import numpy" not in text
    assert "source" not in text


def test_title_has_no_markup(folder):
    assert pdf.title_of("book/one", folder) == "1. One & all"


def test_every_page_of_the_contents_is_in_a_part():
    parts = pdf.parts(ROOT)
    assert parts[""] == ["book/index"]
    assert "book/api/nn" in parts["Reference"]
    assert all((ROOT / name).with_suffix(".md").exists() for name in parts["Before you start"])


@pytest.mark.parametrize("name", ["", "book.pdf"])
def test_pages_link_the_pdf_where_the_environment_names_it(monkeypatch, name):
    monkeypatch.setenv("BOOK_PDF", name)
    group = {"label": "download-buttons", "buttons": []}
    context = {"header_buttons": [group], "pathto": lambda target, kind: f"../{target}"}
    bnbook._link_pdf(None, "book/one", "page.html", context, None)
    assert [button["url"] for button in group["buttons"]] == ["../book.pdf"] * bool(name)
