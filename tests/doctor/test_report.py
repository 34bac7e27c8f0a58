"""The report for people, for programs and for code scanning."""

import dataclasses
import json
import math
import re

import pytest
import torch
from doctor.planted import features, mlp
from torch import nn

from bnlib.doctor import Report, all_rules, examine, watch
from bnlib.doctor.finding import hit


def faulty():
    model = mlp(bias=True)
    model[1].momentum = model[4].momentum = 0.99
    model[4].running_var[0] = -math.inf
    return model


def test_worst_first_and_table_of_norms():
    report = examine(faulty(), features())
    assert [f.severity for f in report.findings] == ["error", "error", "warning", "note"]
    row = report.norms[1]
    assert (row.name, row.kind, row.mode, row.values) == ("4", "BatchNorm1d", "train", 16)
    assert set(row.rules) == {"large-momentum", "negative-variance", "nonfinite-statistics"}
    assert report.norms[0].rules == ("large-momentum",)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_text_says_what_was_measured_what_to_do_and_where_to_read():
    text = str(examine(faulty(), features()))
    assert re.match(r"2 norms, \d+ rules checked: 2 errors, 1 warning, 1 note\n", text)
    assert 'warning: large-momentum at "1" and 1 more\n  The momentum is 0.99' in text
    assert "model.get_submodule(name).momentum = 1 - 0.99" in " ".join(text.split())
    assert "\nmodule  norm " in text
    assert "\nNot checked without the optimizer (optimizer=...): decayed-norm" in text


def test_long_tables_are_cut():
    text = str(examine(nn.Sequential(*[nn.BatchNorm1d(2) for _ in range(40)])))
    assert text.count("BatchNorm1d") == 30
    assert "\nand 10 more norms" in text


class Deep(nn.Module):
    def __init__(self, depth=12):
        super().__init__()
        self.a_rather_long_name = Deep(depth - 1) if depth else nn.BatchNorm1d(4, momentum=0.99)


@pytest.mark.parametrize(("columns", "width"), [(80, 80), (300, 92), (60, 60)])
def test_text_fits_the_terminal(columns, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    report = examine(nn.ModuleList([Deep(), Deep()]))
    lines = str(report).splitlines()
    name = report.norms[0].name
    broken = [line for line in lines if name not in line and "`" not in line]
    assert max(map(len, broken)) in range(width - 4, width + 1)
    assert sum(name in line for line in lines) == 1  # whole in the finding, which is longer for it
    assert sum(line.startswith("...") for line in lines) == 2  # the table has its end


def test_json_holds_everything_and_no_nan():
    report = examine(faulty(), features())
    content = json.loads(report.to_json())
    assert len(content["findings"]) == len(report.findings)
    assert content["findings"][0]["where"] == ["4"]
    evidence = [f["evidence"] for f in content["findings"] if f["rule"] == "negative-variance"]
    assert evidence == [{"channels": 1, "least": "-inf"}]
    assert content["skipped"] == report.skipped
    assert (content["known"], content["steps"], content["passes"]) == (0, None, None)


def test_json_says_what_was_left_out_and_what_was_seen():
    model = faulty()
    with watch(model, torch.optim.SGD(model.parameters())) as record:
        model(features()[0][0])
    [known] = [f for f in record.report().findings if f.rule == "large-momentum"]
    content = json.loads(record.report().without([known]).to_json())
    assert (content["known"], content["steps"], content["passes"]) == (1, 0, 1)


def test_known_findings_are_counted():
    report = examine(faulty(), select=["large-momentum", "negative-variance"])
    first, second = report.findings
    assert "1 warning; 1 known finding left out\n" in str(report.without([first]))
    text = str(report.without([first]).without([second]))
    assert "2 rules checked: nothing new; 2 known findings left out\n" in text
    assert "left out" not in str(report.without([]))


def test_what_is_known_covers_fewer_modules_in_any_order_and_milder_findings():
    def left(where, severity):
        one = dataclasses.replace(report.findings[0], where=where, severity=severity)
        return dataclasses.replace(report, findings=(one,)).without([known]).findings

    report = examine(faulty(), select=["large-momentum"])
    known = dataclasses.replace(report.findings[0], where=("a", "b", "c"), severity="warning")
    assert left(("c", "a"), "note") == left(("b",), "warning") == ()
    assert left(("a", "d"), "note")
    assert left(("a",), "error")


def test_the_first_line_says_that_nothing_was_looked_at():
    assert str(examine(nn.Linear(2, 2))).startswith("no batch norm found in it, ")
    assert str(examine(mlp(), select=["idle-bias"])).startswith("2 norms, nothing was checked\n")


def test_sarif():
    report = examine(faulty(), features())
    log = json.loads(report.to_sarif())
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    described = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in described] == list(all_rules())
    assert all(rule["help"]["text"] and rule["shortDescription"]["text"] for rule in described)
    assert len(run["results"]) == len(report.findings)
    for result, finding in zip(run["results"], report.findings, strict=True):
        assert described[result["ruleIndex"]]["id"] == result["ruleId"] == finding.rule
        assert result["level"] == finding.severity
        places = result["locations"][0]["logicalLocations"]
        assert [place["fullyQualifiedName"] for place in places] == list(finding.where)
        assert "physicalLocation" not in result["locations"][0]
    told = {
        described[note["associatedRule"]["index"]]["id"]: note["message"]["text"]
        for note in run["invocations"][0]["toolExecutionNotifications"]
    }
    assert told == {rule: f"Not checked without {want}." for rule, want in report.skipped.items()}


def test_sarif_of_a_file():
    log = json.loads(examine(faulty()).to_sarif("models/net.py", 7))
    for result in log["runs"][0]["results"]:
        assert result["locations"][0]["physicalLocation"] == {
            "artifactLocation": {"uri": "models/net.py"},
            "region": {"startLine": 7},
        }


def test_raise_if():
    report = examine(faulty(), select=["large-momentum"])
    report.raise_if("error")
    for severity in ("warning", "note"):
        with pytest.raises(AssertionError, match="large-momentum"):
            report.raise_if(severity)
    with pytest.raises(ValueError, match="severity: expected one of note, warning, error"):
        report.raise_if("fatal")
    Report((), (), {}, ()).raise_if("note")
    with pytest.raises(AssertionError, match="nothing was checked"):
        examine(faulty(), select=["idle-bias"]).raise_if()


def test_a_hit_has_a_place_and_a_number():
    for where, evidence in (((), {"a": 1}), ("norm", {})):
        with pytest.raises(ValueError, match="a hit needs"):
            hit(where, "message", **evidence)
    with pytest.raises(ValueError, match="severity"):
        hit("norm", "message", severity="fatal", a=1)


def test_the_model_itself_may_be_the_norm():
    norm = nn.BatchNorm1d(2)
    norm.running_mean[0] = torch.nan
    assert "nonfinite-statistics at the model itself\n" in str(examine(norm))
