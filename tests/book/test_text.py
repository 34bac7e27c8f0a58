"""Typography of the pages: computed numbers, and the names of folds."""

from pathlib import Path

import pytest
from docutils import nodes
from docutils.utils import new_document

ROOT = Path(__file__).parents[2]


@pytest.fixture
def typographic(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from bntext import typographic

    return lambda text: "".join(
        f"^{node.astext()}" if node.tagname == "superscript" else node.astext()
        for node in typographic(text)
    )


@pytest.mark.parametrize(
    ("printed", "read"),
    [
        ("0.25", "0.25"),
        ("-0.17", "\u22120.17"),
        ("-0.17 (-0.29 to -0.05)", "\u22120.17 (\u22120.29 to \u22120.05)"),
        ("3.1e-09", "3.1\u00a0\u00d7\u00a010^\u22129"),
        ("-4e+14 steps", "\u22124\u00a0\u00d7\u00a010^14 steps"),
        ("MNIST-1D", "MNIST-1D"),
        ("2026-11-30", "2026-11-30"),
        ("the1e3", "the1e3"),
    ],
)
def test_numbers(typographic, printed, read):
    assert typographic(printed) == read


@pytest.mark.parametrize(
    ("source", "tags", "name"),
    [
        ("import numpy as np\n\nuse_style()", [], "Imports"),
        ("assert x == 1\nshow(fig)", ["tag_check"], "Check"),
        (
            "fig, ax = plt.subplots()\nshow(fig, 'fig-x', alt='x')",
            ["tag_hide-input"],
            "Code of the figure",
        ),
        ("result = run(Config())", [], "Code"),
    ],
)
def test_names_of_folds(monkeypatch, source, tags, name):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from bntext import fold_name

    assert fold_name(source, tags) == name


def test_numbers_are_read_from_what_the_page_shows(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from bntext import TypographicNumbers

    document = new_document("")
    document += nodes.inline("", "-2", classes=["pasted-text"])
    TypographicNumbers(document).run()
    assert document.astext() == "\u22122"
