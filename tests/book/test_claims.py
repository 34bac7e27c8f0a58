"""The table of claims; `test_build.py` builds a book with one."""

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pytest

from bnlib.experiments.records.verdict import Answer, Verdict

INF, NAN = float("inf"), float("nan")

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


def test_every_claim_of_the_book_is_listed(bnclaims):
    claims = bnclaims.read_claims(ROOT / "book" / "claims.yml")
    short = bnclaims.listing(claims)
    assert len(claims) == len(short.splitlines()) - 2
    assert all(claim.claim in short for claim in claims)
    tested, planned = (bnclaims.listing(claims, show) for show in ("tested", "planned"))
    assert tested.count("{container}") + len(planned.splitlines()) - 2 == len(claims)
    assert "planned" not in {claim.verdict for claim in claims}


def test_planned_claim_has_no_verdict(bnclaims):
    claim = bnclaims.Claim(claim="It works.", source="all", where="later")
    assert bnclaims.listing([claim]).splitlines()[-1] == "| It works. | planned | later |"
    assert bnclaims.listing([claim], "planned").splitlines()[-1] == "| It works. | all | later |"
    assert bnclaims.listing([claim], "tested") == ""


@pytest.mark.parametrize("fields", [{"verdict": "x"}, {"measured": "x"}])
def test_tested_claim_says_what_was_measured(bnclaims, fields):
    with pytest.raises(TypeError, match="both `verdict` and `measured`"):
        bnclaims.Claim(claim="It works.", source="all", where="here", **fields)


def test_card_of_a_theorem_says_where_it_is_proved(bnclaims):
    fields = {"claim": "It works.", "source": "all", "where": "here", "verdict": "x"}
    plain = bnclaims.Claim(**fields, measured="it")
    proved = bnclaims.Claim(**fields, measured="it", proof="by Theorem 1")
    for stored in ((), ("x",)):
        card = bnclaims.listing([proved], "tested", stored)
        assert "\n\nA theorem for all settings: by Theorem 1.\n\nWhere: here\n\n" in card
        assert "theorem" not in bnclaims.listing([plain], "tested", stored)


def test_numbers_of_one_verdict(bnclaims):
    one = record(**{"": verdict(0.072, 0.006, "supported")})
    assert [words for words, _ in bnclaims.numbers(one, percent=True)] == [
        "7.2 % (6.6 to 7.8)",
        "16 seeds, 95 % intervals, margin 2 %",
    ]


def test_numbers_of_cases_name_each_answer_and_each_design(bnclaims):
    cases = {"a": verdict(0.5, 0.1, "supported"), "b": verdict(0.0, 0.01, "no effect", seeds=32)}
    assert [words for words, _ in bnclaims.numbers(record(**cases))] == [
        "a: 0.50 (0.40 to 0.60), supported",
        "b: 0.000 (-0.010 to 0.010), no effect",
        "16 seeds, 95 % intervals, margin 0.02",
        "32 seeds, 95 % intervals, margin 0.02",
    ]


def drawn(svg):
    """Return left end and width of each rectangle, and the place of each dot."""
    boxes = re.findall(r'class="(\w+)" x="([\d.]+)".*?width="([\d.]+)"', svg)
    dots = re.findall(r'cx="([\d.]+)"', svg)
    return {name: (float(x), float(width)) for name, x, width in boxes}, [float(x) for x in dots]


def test_interval_is_drawn_to_scale(bnclaims):
    one = Verdict("", "", 0.5, 0.25, 0.75, 0.1, "supported", 16)
    assert bnclaims.reach([one]) == pytest.approx(0.9)
    boxes, dots = drawn(bnclaims.interval(one, 1.0))
    assert boxes == {"margin": (54.0, 12.0), "range": (75.0, 30.0)}
    assert dots == [90.0]


@pytest.mark.parametrize(("low", "high"), [(0.5, INF), (-INF, INF)])
def test_infinite_ends_are_cut_at_the_edge(bnclaims, low, high):
    bound = Verdict("", "", 0.5 if low > 0 else NAN, low, high, 0.1, "cannot tell", 16)
    boxes, dots = drawn(bnclaims.interval(bound, bnclaims.reach([bound])))
    assert sum(boxes["range"]) == bnclaims.WIDTH
    assert boxes["range"][1] > 5
    assert len(dots) == (low > 0)


@pytest.mark.parametrize("answer", [*get_args(Answer), "it depends on the rate"])
def test_every_answer_has_a_badge(bnclaims, answer):
    assert bnclaims.badge(answer)["classes"][1].startswith("verdict-")
