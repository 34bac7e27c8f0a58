"""What the book shows of how the doctor was judged."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bnlib.doctor import all_rules

ROOT = Path(__file__).parents[2]
FAULTS = [
    {"name": "x in A", "network": "A", "rule": "b", "found": "error", "twin": "", "alarms": []},
    {"name": "x in B", "network": "B", "rule": "b", "found": "", "twin": "note", "alarms": ["a"]},
    {"name": "y in A", "network": "A", "rule": "a", "found": "note", "twin": "", "alarms": []},
]
STORE = {
    "faults": FAULTS,
    "rival": [
        {
            "name": "x in A",
            "found": True,
            "alarms": [],
            "made": {"versions": {"torch-audit": "0.3.0"}},
        },
        {"name": "x in B", "found": False, "alarms": []},
        {"name": "m", "alarms": ["TA1"]},
    ],
    "healthy": [{"name": "m", "findings": {}, "alarms": []}],
    "architectures": [
        {"name": "r", "findings": {"a": "warning"}, "alarms": ["a"]},
        {"name": "s", "skipped": "too large"},
    ],
    "timing": [
        {"name": "r", "ratio": 9.6, "watched": 0.99},
        {"name": "s", "ratio": 4.2, "watched": 1.04},
    ],
}


@pytest.fixture
def bndoctor(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    yield __import__("bndoctor")
    sys.modules.pop("bndoctor")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("faults", "2 of 3 planted faults"),
        ("twins", "1 of 3 healthy twins"),
        ("missed", "b in the network B"),
        ("version", "0.3.0"),
        ("rival", "1 of 2 planted faults"),
        ("healthy", "0 of 1 healthy models"),
        ("architectures", "1 of 1 architectures"),
        ("timing", "4 to 10 training steps"),
        ("watching", "4% of a training step"),
    ],
)
def test_sentence_counts(bndoctor, part, words):
    assert bndoctor.sentence(STORE, part) == words


def test_table_has_a_row_for_each_rule(bndoctor):
    assert bndoctor.markdown(STORE).splitlines()[2:] == [
        "| `a` | 1 of 1 | 1 of 1 | 0 of 1 |",
        "| `b` | 1 of 2 | 1 of 2 | 1 of 2 |",
    ]


def test_role_and_directive_write_what_the_store_says(bndoctor, tmp_path, monkeypatch):
    path = tmp_path / bndoctor.FILE
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(STORE))
    files = []
    env = SimpleNamespace(srcdir=tmp_path, note_dependency=files.append)
    monkeypatch.setattr(bndoctor.DoctorRole, "env", env)
    monkeypatch.setattr(bndoctor.DoctorTable, "env", env)
    role = bndoctor.DoctorRole()
    role.text = "faults"
    [[node], messages] = role.run()
    assert node.astext() == "2 of 3 planted faults"
    assert messages == []
    table = object.__new__(bndoctor.DoctorTable)
    monkeypatch.setattr(bndoctor.DoctorTable, "parse_text_to_nodes", lambda self, text: [text])
    [text] = table.run()
    assert text.splitlines()[2] == "| {ref}`a <rule-a>` | 1 of 1 | 1 of 1 | 0 of 1 |"
    assert files == [str(path)] * 2


def test_each_rule_has_a_section_with_what_its_file_and_the_store_say(bndoctor):
    store = bndoctor.read(ROOT)
    sections = dict(zip(all_rules(), bndoctor.rules(store), strict=True))
    few = sections["few-values"]
    assert few.startswith("(rule-few-values)=\n### few-values\n\nWarning. **A norm takes its means")
    assert "- **Threshold** `FEWEST = 9`: With 9 values" in few
    assert all_rules()["few-values"].fix in few
    assert "{ref}`ch-debugging`" in few
    assert "{ref}`q-padding`" in sections["padding-in-statistics"]
    assert "{ref}`train-eval-gap <rule-train-eval-gap>`" in sections["several-streams"]
    for name, section in sections.items():
        own = [entry for entry in store["faults"] if entry["rule"] == name]
        found = sum(bool(entry["found"]) for entry in own)
        assert f"found {found} of {len(own)} planted faults" in section
        assert own[0]["story"] in section


def test_sections_lead_to_labels_that_the_book_has(bndoctor):
    files = [*(ROOT / "book").glob("*.ipynb"), *(ROOT / "book").glob("*.md")]
    text = "\n".join(path.read_text("utf8") for path in files)
    there = set(re.findall(r"\(([a-z0-9-]+)\)=", text))
    sections = "\n\n".join(bndoctor.rules(bndoctor.read(ROOT)))
    there |= set(re.findall(r"^\((rule-[a-z-]+)\)=$", sections, re.M))
    named = re.findall(r"\{ref\}`(?:[^`<]*<)?([a-z0-9-]+)>?`", sections)
    assert len(named) > 2 * len(all_rules())
    assert set(named) <= there


def test_missed_faults_are_listed_and_none_is_said(bndoctor):
    assert bndoctor._listed(["a", "b", "c"]) == "a, b and c"
    assert bndoctor.sentence(STORE | {"faults": FAULTS[:1]}, "missed") == "none"


def test_the_store_of_the_book_can_be_shown(bndoctor):
    store = bndoctor.read(ROOT)
    rules = {entry["rule"] for entry in store["faults"]}
    assert len(bndoctor.markdown(store).splitlines()) == len(rules) + 2
    for part in ("faults", "twins", "rival", "healthy", "architectures", "timing", "watching"):
        assert " of " in bndoctor.sentence(store, part) or part == "timing"
    assert bndoctor.sentence(store, "version")[0].isdigit()
