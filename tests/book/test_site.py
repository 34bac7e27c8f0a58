"""The site around the pages."""

from pathlib import Path
from types import SimpleNamespace

import pytest

EXTENSIONS = Path(__file__).parents[2] / "book" / "_ext"


@pytest.mark.parametrize(
    ("added", "changed", "left"),
    [(set(), {"book/api/nn"}, False), ({"book/api/nn"}, set(), False), (set(), {"book/x"}, True)],
)
def test_pages_of_sources_are_written_anew_with_an_api_page(
    added, changed, left, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(EXTENSIONS)
    import bnsite

    page = tmp_path / "_modules" / "bnlib.html"
    page.parent.mkdir()
    page.write_text("")
    assert (
        bnsite._write_sources_anew(SimpleNamespace(outdir=tmp_path), None, added, changed, ()) == []
    )
    assert page.exists() == left
