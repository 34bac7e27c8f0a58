"""The report for people, for programs and for code scanning."""

import json
import math
import re

import pytest
import torch
from doctor.planted import features, mlp
from torch import nn

from bnlib.doctor import Report, all_rules, examine
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


def test_text_says_what_was_measured_what_to_do_and_where_to_read():
    text = str(examine(faulty(), features()))
    assert re.match(r"2 norms, \d+ rules checked: 2 errors, 1 warning, 1 note\n", text)
    assert "warning: large-momentum at 1 and 1 more\n  The momentum is 0.99" in text
    assert "model.get_submodule(name).momentum = 1 - 0.99" in " ".join(text.split())
    assert "\nmodule  norm " in text
    assert "\nNot checked, for want of the optimizer: give optimizer=: decayed-norm" in text


def test_long_tables_are_cut():
    text = str(examine(nn.Sequential(*[nn.BatchNorm1d(2) for _ in range(40)])))
    assert text.count("BatchNorm1d") == 30
    assert "\nand 10 more norms" in text


def test_json_holds_everything_and_no_nan():
    report = examine(faulty(), features())
    content = json.loads(report.to_json())
    assert len(content["findings"]) == len(report.findings)
    assert content["findings"][0]["where"] == ["4"]
    evidence = [f["evidence"] for f in content["findings"] if f["rule"] == "negative-variance"]
    assert evidence == [{"channels": 1, "least": "-inf"}]
    assert content["skipped"] == report.skipped


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


def test_raise_if():
    report = examine(faulty(), select=["large-momentum"])
    report.raise_if("error")
    for severity in ("warning", "note"):
        with pytest.raises(AssertionError, match="large-momentum"):
            report.raise_if(severity)
    with pytest.raises(ValueError, match="severity: expected one of note, warning, error"):
        report.raise_if("fatal")
    Report((), (), {}, ()).raise_if("note")


def test_a_hit_has_a_place_and_a_number():
    for where, evidence in (((), {"a": 1}), ("norm", {})):
        with pytest.raises(ValueError, match="a hit needs"):
            hit(where, "message", **evidence)
    with pytest.raises(ValueError, match="severity"):
        hit("norm", "message", severity="fatal", a=1)


def test_the_model_itself_may_be_the_norm():
    norm = nn.BatchNorm1d(2)
    norm.running_mean[0] = torch.nan
    assert "nonfinite-statistics at the model" in str(examine(norm))
