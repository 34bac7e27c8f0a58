"""Every chapter fails when the library that it teaches is wrong."""

import os
import shutil

import nbformat
import pytest
from mutants import MUTANTS, ROOT
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
BREAKS = [(chapter, mutant) for mutant in MUTANTS for chapter in mutant.chapters]


def test_every_chapter_has_a_mutant_that_it_must_notice():
    assert CHAPTERS
    assert {chapter for chapter, _ in BREAKS} == set(CHAPTERS)


@pytest.mark.parametrize(
    ("chapter", "mutant"), BREAKS, ids=[f"{chapter}-{mutant.name}" for chapter, mutant in BREAKS]
)
def test_chapter_fails_with_a_broken_library(chapter, mutant, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "bnlib", tmp_path / "bnlib", ignore=shutil.ignore_patterns("*.pyc"))
    (tmp_path / mutant.path).write_text(mutant.source(), "utf8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *_python_path()]))
    notebook = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        resources={"metadata": {"path": str(tmp_path)}},
        extra_arguments=["--log-level=ERROR"],
    )
    with pytest.raises(CellExecutionError) as failure:
        client.execute()
    assert failure.value.ename in {"AssertionError", "ValueError"}


def _python_path() -> list[str]:
    return list(filter(None, [os.environ.get("PYTHONPATH")]))
