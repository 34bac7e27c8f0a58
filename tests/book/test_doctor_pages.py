"""What the book shows of how the doctor was judged."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = [
    {"name": "x in A", "rule": "b", "found": "error", "twin": "", "alarms": []},
    {"name": "x in B", "rule": "b", "found": "", "twin": "note", "alarms": ["a"]},
    {"name": "y in A", "rule": "a", "found": "note", "twin": "", "alarms": []},
]
STORE = {
    "faults": FAULTS,
    "rival": [
        {"name": "x in A", "found": True, "alarms": []},
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
    assert table.run() == [bndoctor.markdown(STORE)]
    assert files == [str(path)] * 2


def test_the_store_of_the_book_can_be_shown(bndoctor):
    store = bndoctor.read(ROOT)
    rules = {entry["rule"] for entry in store["faults"]}
    assert len(bndoctor.markdown(store).splitlines()) == len(rules) + 2
    for part in ("faults", "twins", "rival", "healthy", "architectures", "timing", "watching"):
        assert " of " in bndoctor.sentence(store, part) or part == "timing"
