"""The table of the doctor: stored entry by entry, made again where its sources changed."""

import ast
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.doctor import rival, table
from benchmarks.doctor.faults import FAULTS
from benchmarks.doctor.healthy import HEALTHY
from bnlib.doctor import all_rules

ROOT = Path(__file__).parents[1]
SAMPLE = {  # each takes a second or two
    "faults": ["last_batch in MLP", "zero_scales in MLP", "look_at_the_shapes in MLP"],
    "healthy": ["mlp", "new_resnet", "only_the_state"],
}


def finding(rule, severity):
    return SimpleNamespace(rule=rule, severity=severity)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "doctor.json"


def names(path, part="healthy"):
    return [*table.load(path)[part]]


def test_the_worst_severity_of_each_rule_counts():
    found = [finding("b", "note"), finding("a", "warning"), finding("a", "note")]
    found.append(finding("c", "error"))
    summary = table.summary(found)
    assert summary == {"a": "warning", "b": "note", "c": "error"}
    assert table.alarms(summary) == ["a", "c"]


def test_what_is_stored_is_not_made_again(path):
    table.fill(path, "healthy", [("one", lambda: {"findings": {}, "alarms": []})], 1)
    table.fill(path, "healthy", [("one", pytest.fail), ("two", lambda: {"alarms": []})], 1)
    assert names(path) == ["one", "two"]


def test_an_interrupted_run_keeps_what_it_had(path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table.fill(path, "healthy", [("one", dict), ("two", interrupt)], 1)
    assert names(path) == ["one"]


def test_other_sources_make_an_entry_again(path, monkeypatch):
    table.fill(path, "healthy", [("one", lambda: {"alarms": ["old"]})], 1)
    monkeypatch.setattr(table, "source", lambda part: "new")
    table.fill(path, "healthy", [("one", lambda: {"alarms": []})], 1)
    assert table.load(path)["healthy"]["one"]["alarms"] == []


def test_an_entry_that_is_gone_is_left_out(path):
    table.fill(path, "healthy", [("one", dict), ("two", dict)], 1)
    table.fill(path, "healthy", [("two", dict)], 1)
    assert names(path) == ["two"]


def test_the_time_ends_the_run(path):
    table.fill(path, "healthy", [("one", dict)], minutes=-1)
    assert not path.exists()


def test_what_fails_says_why_and_is_no_quiet_model(path):
    def fail():
        raise ValueError("no such layer")

    table.fill(path, "healthy", [("one", fail)], 1)
    assert "ValueError: no such layer" in table.load(path)["healthy"]["one"]["failed"]
    assert "0 of 0" in table.report(table.load(path))


def test_an_entry_has_its_provenance(path):
    table.fill(path, "faults", [("one", dict)], 1)
    made = json.loads(path.read_text())["faults"][0]["made"]
    assert {"date", "seconds", "versions", "source"} <= made.keys()


def test_report_counts_found_and_missed():
    entries = {part: {} for part in table.PARTS}
    entries["faults"] = {
        "x in A": {"name": "x in A", "rule": "few-values", "found": "error", "twin": ""},
        "x in B": {"name": "x in B", "rule": "few-values", "found": "", "twin": "error"},
    }
    entries["rival"] = {"x in A": {"found": True, "alarms": ["TA304"]}}
    entries["healthy"] = {"m": {"name": "m", "findings": {}, "alarms": ["few-values"]}}
    text = table.report(entries)
    assert "few-values                         1/2   1/2   1/2" in text
    assert "missed: x in B" in text
    assert "healthy: 1 of 1 with an error or a warning" in text
    assert "torch-audit, twins: 1 of 1" in text


def test_rules_of_the_rival_exist():
    pytest.importorskip("torch_audit")
    from torch_audit.loader import load_default_validators

    known = {rule.id for validator in load_default_validators() for rule in validator.rules}
    assert set().union(*rival.ABOUT.values()) <= known


@pytest.fixture(scope="module")
def stored():
    return table.load(ROOT / table.PATH)


def test_the_store_has_all_cases_and_rules(stored):
    assert stored["faults"].keys() == {fault.name for fault in FAULTS}
    assert stored["healthy"].keys() == set(HEALTHY)
    assert {entry["rule"] for entry in stored["faults"].values()} == all_rules().keys()
    made = [*stored["faults"].values(), *stored["healthy"].values()]
    assert not [entry for entry in made if "failed" in entry]


@pytest.mark.parametrize("name", SAMPLE["faults"])
def test_a_stored_fault_is_as_it_is_found_today(stored, name):
    [fault] = [fault for fault in FAULTS if fault.name == name]
    entry = {"name": name, **table.fault_entry(fault)}
    assert {key: stored["faults"][name][key] for key in entry} == entry


@pytest.mark.parametrize("name", SAMPLE["healthy"])
def test_a_stored_healthy_model_is_as_it_is_found_today(stored, name):
    entry = {"name": name, **table.healthy_entry(name)}
    assert {key: stored["healthy"][name][key] for key in entry} == entry


def test_comments_and_docstrings_are_no_other_source():
    one, other, third = (
        ast.dump(table._Code().visit(ast.parse(text)))
        for text in ('"""Text."""\nx = 1  # why\n', "x = 1\n", "x = 2\n")
    )
    assert one == other != third
