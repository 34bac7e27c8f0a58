"""Findings in the Static Analysis Results Interchange Format (SARIF) 2.1.0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bnlib.doctor.finding import Finding, place
from bnlib.doctor.registry import all_rules, explain

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def log(
    findings: Iterable[Finding], skipped: Mapping[str, str], uri: str | None, line: int
) -> dict[str, Any]:
    """Return the log: the tool with its rules, a result for each finding, and what was skipped."""
    known = all_rules()
    ids = list(known)
    described = [
        {
            "id": rule.name,
            "shortDescription": {"text": rule.summary},
            "fullDescription": {"text": rule.text},
            "help": {"text": explain(rule.name)},
            "defaultConfiguration": {"level": rule.severity},  # its levels have the same names
            "properties": {"chapter": rule.chapter, "needs": list(rule.needs)},
        }
        for rule in known.values()
    ]
    physical = {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}
    place_of = {} if uri is None else {"physicalLocation": physical}
    notifications = [
        {
            "level": "note",
            "message": {"text": f"Not checked without {want}."},
            "associatedRule": {"id": name, "index": ids.index(name)},
        }
        for name, want in skipped.items()
    ]
    run = {
        "tool": {"driver": {"name": "bnlib.doctor", "rules": described}},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notifications}],
        "results": [_result(each, ids.index(each.rule), place_of) for each in findings],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, index: int, place_of: dict[str, Any]) -> dict[str, Any]:
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": f"{place(finding.where)}: {finding.message} What to do: {finding.fix}"},
        "locations": [
            {
                **place_of,
                "logicalLocations": [
                    {"fullyQualifiedName": name or "the model itself", "kind": "module"}
                    for name in finding.where
                ],
            }
        ],
        "partialFingerprints": {
            "ruleAndModules/v1": f"{finding.rule}:{','.join(sorted(finding.where))}"
        },
        "properties": dict(finding.evidence),
    }
