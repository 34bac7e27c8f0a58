"""The example on the API page of the doctor prints what stands below it."""

import re
import shlex
from pathlib import Path

import pytest

from bnlib import cli

PAGE = Path(__file__).parents[2] / "book" / "api" / "doctor.md"


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text("utf8"), re.DOTALL | re.M)


def test_example_prints_what_the_page_shows(capsys):
    [example], [shown] = blocks("python"), blocks("text")
    assert max(map(len, example.splitlines())) <= 88
    exec(example, {})
    assert capsys.readouterr().out == shown


FACTORY = "bnlib.doctor.example:build"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("--select large-momentum,idle-bias --fail-on note", 0),
        ("--baseline known.json --fail-on error", 0),
        ("--format json", 0),
    ],
)
def test_commands_of_the_page(options, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = "".join(blocks("sh"))
    assert options in lines
    if "known" in options:
        cli.main(["doctor", FACTORY, "--format", "json"])
        Path("known.json").write_text(capsys.readouterr().out)
    assert cli.main(["doctor", FACTORY, *shlex.split(options)]) == code
