"""The table of claims; `test_build.py` builds a book with one."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from bnlib.experiments.records.verdict import Verdict

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bnclaims(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    yield __import__("bnclaims")
    sys.modules.pop("bnclaims")


def verdict(effect, half, answer, seeds=16):
    return Verdict("", "", effect, effect - half, effect + half, 0.02, answer, seeds)


def record(**cases):
    return {"answer": "", "cases": {name: asdict(each) for name, each in cases.items()}}


def test_every_claim_of_the_book_is_in_the_short_table(bnclaims):
    claims = bnclaims.read_claims(ROOT / "book" / "claims.yml")
    short = bnclaims.table(claims)
    assert len(claims) == len(short.splitlines()) - 2
    assert all(claim.claim in short for claim in claims)
    tested, planned = (bnclaims.table(claims, show) for show in ("tested", "planned"))
    assert len(tested.splitlines() + planned.splitlines()) == len(claims) + 4
    assert "planned" not in {claim.verdict for claim in claims}


def test_planned_claim_has_no_verdict(bnclaims):
    claim = bnclaims.Claim(claim="It works.", source="all", where="later")
    assert bnclaims.table([claim]).splitlines()[-1] == "| It works. | planned | later |"
    assert bnclaims.table([claim], "planned").splitlines()[-1] == "| It works. | all | later |"
    assert len(bnclaims.table([claim], "tested").splitlines()) == 2


@pytest.mark.parametrize("fields", [{"verdict": "x"}, {"measured": "x"}])
def test_tested_claim_says_what_was_measured(bnclaims, fields):
    with pytest.raises(TypeError, match="both `verdict` and `measured`"):
        bnclaims.Claim(claim="It works.", source="all", where="here", **fields)


def test_numbers_of_one_verdict(bnclaims):
    one = record(**{"": verdict(0.072, 0.006, "supported")})
    assert bnclaims.numbers(one, percent=True) == [
        "7.2 % (6.6 to 7.8)",
        "16 seeds, 95 % intervals, margin 2 %",
    ]


def test_numbers_of_cases_name_each_answer_and_each_design(bnclaims):
    cases = {"a": verdict(0.5, 0.1, "supported"), "b": verdict(0.0, 0.01, "no effect", seeds=32)}
    assert bnclaims.numbers(record(**cases)) == [
        "a: 0.50 (0.40 to 0.60), supported",
        "b: 0.000 (-0.010 to 0.010), no effect",
        "16 seeds, 95 % intervals, margin 0.02",
        "32 seeds, 95 % intervals, margin 0.02",
    ]
