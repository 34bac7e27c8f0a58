"""What finished pages can do without goes, and nothing else."""

import sys
from pathlib import Path

import pytest

EXTENSIONS = str(Path(__file__).parents[2] / "book" / "_ext")
sys.path.insert(0, EXTENSIONS)
try:
    from bnlight import FIGURE, drop_variables, light_figures, light_head, light_sheet, names_in_use
finally:
    sys.path.remove(EXTENSIONS)


def lightened(tmp_path, css, used=("page", "seen")):
    sheet = tmp_path / "a.css"
    sheet.write_text(css, "utf8")
    return light_sheet(sheet, tmp_path, {*used})


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".seen{a:b}", ".seen{a:b}"),
        (".other{a:b}", ""),
        (".seen,.other{a:b}", ".seen{a:b}"),
        ("#page .seen{a:b}", "#page .seen{a:b}"),
        ("#page .other{a:b}", ""),
        (".seen:not(.other){a:b}", ".seen:not(.other){a:b}"),
        ("@media print{.seen{a:b}.other{a:b}}", "@media print{.seen{a:b}}"),
        ("@media print{.other{a:b}}", ""),
        ("p{content:'.other}'}", 'p{content:".other}"}'),
        ("/* .seen{} */p{a:b}", "p{a:b}"),
        ("p{a:url(x/y.png)}", "p{a:url(x/y.png)}"),
        ("@font-face{src:url(data:font/woff2;base64,AA)}", None),
    ],
)
def test_rules_that_cannot_apply_go(tmp_path, css, kept):
    assert lightened(tmp_path, css) == (css if kept is None else kept)


def test_imported_rules_come_first_and_links_are_moved(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "b.css").write_text("i{a:b}", "utf8")
    sheet = tmp_path / "in" / "a.css"
    sheet.write_text('@import "../b.css";\nb{a:url(../c.png)}', "utf8")
    assert light_sheet(sheet, tmp_path, set()) == "i{a:b}b{a:url(c.png)}"


def test_names_are_those_of_pages_and_all_words_of_scripts():
    names = names_in_use(['<p class="a b" id="c">d</p>'], ["x.classList.add('e-f')"])
    assert {"a", "b", "c", "e-f"} <= names
    assert "d" not in names


def test_variables_that_only_unused_variables_use_go():
    style = "p{--a:1;--b:var(--a);--c:2;d:var(--c)}"
    assert drop_variables(style, set()) == "p{--c:2;d:var(--c)}"
    assert drop_variables(style, {"--b"}) == style


def figure(name):
    glyph = f'<path id="{name}-D-1a" d="M 0  1" transform="scale(0.1)" />'
    use = f'<use href="#{name}-D-1a" x="1"/><g clip-path="url(#{name}-c)"/>'
    clip = f'<clipPath id="{name}-c"/>'
    parts = f'<g id="{name}-axes"><defs>{glyph}</defs>{use}{clip}</g>'
    return f'<svg id="{name}" class="bn-figure">{parts}</svg>'


def test_figures_share_the_shapes_of_letters():
    text = light_figures(f"<article>{figure('one')}{figure('two')}</article>")
    first, second = FIGURE.findall(text)
    assert 'href="#g0"' in first
    assert 'href="#g0"' in second
    assert text.count("<path") == 1
    assert '<path id="g0" d="M 0  1" transform="scale(0.1)"/>' in text
    assert 'id="one"' in first  # others link to the figure
    assert 'id="one-axes"' not in first
    assert 'id="one-c"' in first
    assert light_figures(text) == text


HEAD = """<meta name="viewport" a><meta name="viewport" b>
<link href="a.css" rel="stylesheet" />
<link rel="stylesheet" href="b.css" />
<link rel="preload" as="script" href="c.js" />
<script src="x/documentation_options.js?v=1"></script><script src="d.js"></script>
<script>e</script><script defer src="f.js"></script>
"""


def test_head_has_one_style_sheet_and_scripts_that_wait():
    head = light_head(f'{HEAD}<i class="katex">', "..", "12", "options")
    assert head.count("stylesheet") == 1
    assert 'href="../_static/book.css?v=12"' in head
    assert 'as="script"' not in head
    assert head.count('as="font"') == 2
    assert "<script>options</script>" in head
    assert '<script defer src="d.js">' in head
    assert head.count("viewport") == 1
    assert "preload" not in light_head(HEAD, "..", "12", "")
    assert light_head(head, "..", "12", "options") == head


def test_page_of_the_search_keeps_the_order_of_its_scripts():
    assert '<script src="d.js">' in light_head(f"{HEAD} searchindex.js", "..", "12", "")
