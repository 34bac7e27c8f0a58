"""`make quick` runs the tests that belong to a change."""

from pathlib import Path

import pytest

FILES = (
    "bnlib/layers/linear.py",
    "bnlib/layers/_base.py",
    "bnlib/cli.py",
    "bnlib/_validation.py",
    "tests/layers/test_linear.py",
    "tests/layers/conftest.py",
    "tests/test_cli.py",
    "tests/book/test_book_rules.py",
    "tests/conftest.py",
)


@pytest.fixture
def tests_of(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tools")
    import changed_tests

    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    return lambda *changed: changed_tests.tests_of(changed, tmp_path)


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("bnlib/layers/linear.py", ["bnlib/layers/linear.py", "tests/layers/test_linear.py"]),
        ("bnlib/layers/_base.py", ["bnlib/layers/_base.py", "tests/layers"]),
        ("bnlib/layers/deleted.py", ["tests/layers"]),
        ("bnlib/cli.py", ["bnlib/cli.py", "tests/test_cli.py"]),
        ("bnlib/_validation.py", ["bnlib/_validation.py"]),
        ("tests/layers/test_linear.py", ["tests/layers/test_linear.py"]),
        ("tests/layers/conftest.py", ["tests/layers"]),
        ("tests/conftest.py", []),
        ("book/glossary.md", ["tests/book/test_book_rules.py"]),
        ("README.md", []),
    ],
)
def test_tests_of_a_file(tests_of, changed, tests):
    assert tests_of(changed) == tests


def test_nothing_is_named_twice(tests_of):
    changed = "bnlib/layers/_base.py", "bnlib/layers/linear.py"
    assert tests_of(*changed) == [*changed, "tests/layers"]
