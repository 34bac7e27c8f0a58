import builtins
import json

import IPython
import myst_nb
import pytest

from bnlib.experiments.records.ledger import glue_verdict
from bnlib.experiments.records.verdict import paired_verdict

SMALL, LARGE = (paired_verdict("More.", "A paper", [x, x], [0, 0], 0.1) for x in (0.0, 1.0))


@pytest.fixture
def glued(monkeypatch):
    """Pretend to be in a notebook; return what is glued there."""
    found = {}
    monkeypatch.setattr(IPython, "get_ipython", object)
    monkeypatch.setattr(
        myst_nb, "glue", lambda name, text, display: found.update({name: json.loads(text)})
    )
    return found


def test_one_verdict_is_delivered_with_its_numbers(glued):
    glue_verdict("more-of-it", LARGE)
    assert glued["verdict-more-of-it"]["answer"] == "supported"
    (case,) = glued["verdict-more-of-it"]["cases"].values()
    assert (case["effect"], case["margin"], case["seeds"]) == (1.0, 0.1, 2)


@pytest.mark.parametrize(
    ("cases", "answer"),
    [((LARGE, LARGE), "supported"), ((SMALL, LARGE), "mixed"), ((SMALL, SMALL), "no effect")],
)
def test_cases_that_disagree_are_mixed(glued, cases, answer):
    glue_verdict("more", {"a": cases[0], "b": cases[1]})
    assert glued["verdict-more"]["answer"] == answer
    assert list(glued["verdict-more"]["cases"]) == ["a", "b"]


def test_answer_of_a_judge_is_kept(glued):
    glue_verdict("more", {"a": SMALL, "b": LARGE}, "mixed: depends on the case")
    assert glued["verdict-more"]["answer"] == "mixed: depends on the case"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("More of it", SMALL), "key: .*'More of it'"),
        (("more", {}), "verdict: .*none"),
        (("more", SMALL, "perhaps"), "answer: .*'perhaps'"),
    ],
)
def test_faulty_deliveries_are_refused_everywhere(arguments, message):
    with pytest.raises(ValueError, match=message):
        glue_verdict(*arguments)


def test_nothing_is_delivered_outside_of_a_notebook(glued, monkeypatch):
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    glue_verdict("more", LARGE)
    assert glued == {}


def test_works_without_myst_nb(glued, monkeypatch):
    load = builtins.__import__

    def refuse(name, *rest):
        if name == "myst_nb":
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    glue_verdict("more", LARGE)
    assert glued == {}
