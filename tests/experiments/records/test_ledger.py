import builtins
import json

import IPython
import myst_nb
import pytest

from bnlib.experiments.records.ledger import glue_verdict
from bnlib.experiments.records.verdict import paired_verdict

SMALL, LARGE = (paired_verdict("More.", "A paper", [x, x + 0.01], [0, 0], 0.2) for x in (0.0, 1.0))


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
    assert (case["effect"], case["margin"], case["seeds"]) == (1.005, 0.2, 2)


@pytest.mark.parametrize(
    ("cases", "answer"),
    [
        ((LARGE, LARGE), "supported"),
        ((SMALL, LARGE), "it depends on the case"),
        ((SMALL, SMALL), "no effect"),
    ],
)
def test_cases_that_disagree_depend_on_the_case(glued, cases, answer):
    glue_verdict("more", {"a": cases[0], "b": cases[1]})
    assert glued["verdict-more"]["answer"] == answer
    assert list(glued["verdict-more"]["cases"]) == ["a", "b"]


def test_factors_name_what_the_answer_depends_on(glued):
    glue_verdict("more", {("a", "x"): SMALL, ("b", "x"): LARGE}, "the data set", "the mode")
    assert glued["verdict-more"]["answer"] == "it depends on the data set"
    assert list(glued["verdict-more"]["cases"]) == ["a, x", "b, x"]


def test_one_verdict_may_decide(glued):
    glue_verdict("more", {"a": SMALL, "b": LARGE}, whole=LARGE)
    assert glued["verdict-more"]["answer"] == "supported"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("More of it", SMALL), "key: .*'More of it'"),
        (("more", {}), "verdicts: .*none"),
        (("more", {("a", "b"): SMALL}), "verdicts: expected keys of 1 entries"),
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
