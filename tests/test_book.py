"""What stands in for myst-nb and PyTorch where they are not at hand."""

import sys
import types
from dataclasses import replace

import pytest

from bnlib.book import at_full_size, glue, in_browser, optional, peers, resized
from bnlib.experiments import conditioning


def test_a_package_that_is_there_is_imported():
    assert optional("json") is sys.modules["json"]


def test_one_that_is_not_there_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert optional("torch") is None
    assert peers(optional("torch")).startswith("bnlib (not PyTorch")
    assert peers(types.ModuleType("torch")) == "bnlib and PyTorch"


def test_a_package_that_lacks_another_is_no_absent_package(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_package_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_package_of_this_name"):
        optional("half_installed")


def test_numbers_are_glued_where_there_is_a_book(monkeypatch):
    kept = {}
    book = types.ModuleType("myst_nb")
    book.glue = lambda name, value, display: kept.update({name: (value, display)})
    monkeypatch.setitem(sys.modules, "myst_nb", book)
    glue("number", 3.0)
    assert kept == {"number": (3.0, False)}
    monkeypatch.setitem(sys.modules, "myst_nb", None)
    glue("other", 4.0)
    assert kept == {"number": (3.0, False)}


@pytest.mark.parametrize(
    ("smaller", "said"),
    [({}, "seeds = 2"), ({"seeds": 4, "m": 20}, "seeds = 4, m = 20")],
    ids=["seeds", "more"],
)
def test_experiments_are_smaller_in_the_browser_and_say_so(monkeypatch, capsys, smaller, said):
    config = conditioning.Config()
    assert resized(config, **smaller) is config
    assert at_full_size()
    assert not in_browser()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "platform", "emscripten")
    assert resized(config, **smaller) == replace(config, **{"seeds": 2, **smaller})
    assert capsys.readouterr().out == f"smaller in the browser than in the book: {said}\n"
    assert not at_full_size()
    assert capsys.readouterr().out.startswith("not checked in the browser")
