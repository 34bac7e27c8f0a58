"""Findings in the Static Analysis Results Interchange Format (SARIF) 2.1.0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bnlib.doctor.finding import Finding, place
from bnlib.doctor.registry import all_rules, explain

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def log(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return the log: the tool with all its rules, and a result for each finding."""
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
    results = [_result(finding, ids.index(finding.rule)) for finding in findings]
    tool = {"driver": {"name": "bnlib.doctor", "rules": described}}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": tool, "results": results}]}


def _result(finding: Finding, index: int) -> dict[str, Any]:
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": f"{place(finding.where)}: {finding.message} What to do: {finding.fix}"},
        "locations": [
            {
                "logicalLocations": [
                    {"fullyQualifiedName": name or "the model", "kind": "module"}
                    for name in finding.where
                ]
            }
        ],
        "partialFingerprints": {"ruleAndModules/v1": f"{finding.rule}:{','.join(finding.where)}"},
        "properties": dict(finding.evidence),
    }
