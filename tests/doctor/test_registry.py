"""Rules are found by their files, and refused if they lack a part."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from bnlib.doctor import all_rules, explain
from bnlib.doctor.registry import TITLES, chosen, rule_of

ROOT = Path(__file__).parents[2]
COMPLETE = '''"""Something is wrong.

Why it is.
"""
SEVERITY = "warning"
NEEDS = ("structure", "forward or watch")
FIX = "do this"
CHAPTER = "inference"

LIMIT = 3
"""A reason
on two lines."""


def check(case):
    yield
'''


def rule_from(text, tmp_path):
    path = tmp_path / "some_rule.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("some_rule", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return rule_of(module)


def test_parts_of_a_rule(tmp_path):
    rule = rule_from(COMPLETE, tmp_path)
    assert (rule.name, rule.summary) == ("some-rule", "Something is wrong.")
    assert rule.thresholds == {"LIMIT": (3, "A reason on two lines.")}


BROKEN = [
    ('"""Something is wrong.\n\nWhy it is.\n"""\n', "", "no docstring"),
    ('SEVERITY = "warning"', 'SEVERITY = "fatal"', "SEVERITY is one of"),
    ('SEVERITY = "warning"', "", "no SEVERITY"),
    ('("structure", "forward or watch")', '("structure", "forwards")', "NEEDS is a tuple"),
    ('("structure", "forward or watch")', '"structure"', "NEEDS is a tuple"),
    ('("structure", "forward or watch")', "()", "NEEDS is a tuple"),
    ("check(case)", "check(model)", r"expected check\(case\)"),
    ('CHAPTER = "inference"', 'CHAPTER = "inferences"', "CHAPTER is one of"),
    ('"""A reason\non two lines."""', "", "LIMIT has no reason"),
]


@pytest.mark.parametrize(("part", "instead", "message"), BROKEN)
def test_incomplete_rules_are_refused(part, instead, message, tmp_path):
    assert part in COMPLETE
    with pytest.raises(TypeError, match=rf"rule some-rule: .*{message}"):
        rule_from(COMPLETE.replace(part, instead), tmp_path)


def test_every_rule_has_its_tests_and_its_chapter():
    for name, rule in all_rules().items():
        file = name.replace("-", "_")
        assert (ROOT / "tests" / "doctor" / "rules" / f"test_{file}.py").exists(), name
        assert rule.summary.endswith("."), name


def headings():
    """Return the title of each chapter, and the questions with their labels, as they are seen."""
    found = {}
    for path in (ROOT / "book").glob("*.ipynb"):
        cells = json.loads(path.read_text("utf8"))["cells"]
        text = "".join(cells[0]["source"])
        found[path.stem] = re.search(r"^# (.+)$", text, re.M)[1]
    questions = (ROOT / "book" / "questions.md").read_text("utf8")
    for label, title in re.findall(r"^\((q-.+)\)=\n### (.+)$", questions, re.M):
        found[f"questions#{label}"] = title.replace("`", "")
    return found


def test_titles_are_the_headings_of_the_book_and_each_is_used():
    there = headings()
    assert {key: there.get(key) for key in TITLES} == TITLES
    assert {rule.chapter for rule in all_rules().values()} == set(TITLES)


def test_more_names_the_command_and_the_heading():
    assert all_rules()["idle-bias"].more == (
        "python -m bnlib doctor --explain idle-bias, and in the book \u2018The backward pass\u2019"
    )


def test_explain():
    text = explain("few-values")
    assert text.startswith("few-values (warning): a norm takes its means over too few values")
    assert "FEWEST = 9: With 9 values" in text
    assert "What to do: drop_last=True" in text
    with pytest.raises(ValueError, match=r"did you mean few-values\?"):
        explain("few-value")


def test_select_and_ignore():
    assert set(chosen(["few-values", "idle-bias"], ["idle-bias"])) == {"few-values"}
    assert set(chosen(None, ["idle-bias"])) == set(all_rules()) - {"idle-bias"}
