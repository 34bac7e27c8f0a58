"""The doors of the book lead somewhere: every link of these pages has its target in the sources.

A rule lists what is wrong with a page. `BROKEN` breaks a faultless text in one place per entry, and
the rule must object.
"""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from pages import notebooks

from bnlib import functional as fn

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
PAGES = ("index", "questions", "for_teachers")
QUESTIONS = 50
WORDS = 60
PROVED = {
    "q-four-parameters",
    "q-redundant-with-the-next-weights",
    "q-scale-before-relu",
    "q-bias-before-bn",
    "q-which-dimension",
    "q-batch-of-one",
    "q-on-the-output",
    "q-standardize-the-input",
}
"""Answers that hold a proof, an example of their own or a second paragraph."""
PARTS = ("Prediction", "Misconception", "Demonstration", "Exam question")
ROLE = re.compile(r"\{([\w:]+)\}`([^`]+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|\{([\w:]+)\}`")


def page(name):
    return (BOOK / f"{name}.md").read_text("utf8")


def chapter(name):
    return json.loads((BOOK / f"{name}.ipynb").read_text("utf8"))["cells"]


def prose(path):
    text = path.read_text("utf8")
    if path.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def targets():
    """Map each kind of target to the names that the sources define."""
    text = "\n\n".join(map(prose, [*BOOK.rglob("*.md"), *BOOK.glob("*.ipynb")]))
    claims = yaml.safe_load((BOOK / "claims.yml").read_text("utf8"))
    entries = (BOOK / "references.bib").read_text("utf8")
    terms = re.findall(r"^```\{glossary\}\n(.*?)^```", page("glossary"), re.DOTALL | re.M)
    return {
        "label": found(r"^\(([\w-]+)\)=$|^:(?:label|name): (\S+)", text),
        "equation": found(r"^\$\$ \(([\w-]+)\)$|^:label: (eq-\S+)", text),
        "claim": {claim["verdict"] for claim in claims if "verdict" in claim},
        "store": {path.stem for path in (BOOK / "_data" / "multiverse").glob("*.json")},
        "source": found(r"^@\w+\{([^,\s]+)()", entries),
        "term": found(r"^(\S.*)$()", "\n".join(terms).lower()),
    }


def found(pattern, text):
    return {one or other for one, other in re.findall(pattern, text, re.M)}


KINDS = {
    "ref": "label",
    "numref": "label",
    "prf:ref": "label",
    "eq": "equation",
    "verdict": "claim",
    "multiverse": "store",
    "cite:t": "source",
    "cite:p": "source",
    "term": "term",
}
PREFIXES = {"numref": "fig-", "prf:ref": "thm-", "eq": "eq-"}
"""Of the labels that only this role can link."""


def importable(name):
    """Tell whether a dotted name is a module or an attribute of one."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            named = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for part in parts[k:]:
            named = getattr(named, part, None)
        return named is not None
    return False


# ------------------------------------------------------------------ the rules


def has_a_target_for_each_role(text, known):
    for role, content in ROLE.findall(text):
        target = re.sub(r".*<(.*)>$", r"\1", content).lstrip("~")
        if role.startswith("py:"):
            if not importable(target):
                yield f"{target} cannot be imported"
        elif role == "doc":
            path = ROOT / target.lstrip("/") if target.startswith("/") else BOOK / target
            if not any(path.with_suffix(end).is_file() for end in (".md", ".ipynb")):
                yield f"no page {target}"
        elif role in KINDS:
            for name in target.split(",") if role.startswith("cite") else [target]:
                name = name.lower() if role == "term" else name.strip()
                if name not in known[KINDS[role]]:
                    yield f"{role}: no {KINDS[role]} {name}"
                prefix = next(filter(name.startswith, PREFIXES.values()), None)
                if prefix != PREFIXES.get(role):
                    yield f"{role} cannot link {name}"
        elif not role.startswith(("claims", "code", "prf:", "admonition")):
            yield f"unknown role {role}"


def has_a_file_for_each_link(text, known):
    for target, _ in LINK.findall(text):
        if target and "://" not in target:
            name, _, anchor = target.partition("#")
            if name and not (BOOK / name).is_file():
                yield f"no file {name}"
            if anchor and anchor not in known["label"]:
                yield f"no anchor {anchor}"


def has_many_questions(text, known):
    labels = [label for label, _, _ in questions(text)]
    if len(set(labels)) < QUESTIONS:
        yield f"at least {QUESTIONS} questions, not {len(set(labels))}"
    headings = len(re.findall(r"^### ", text, re.M))
    if not len(labels) == len(set(labels)) == headings:
        yield f"a label q-... of its own for each of the {headings} questions, not {len(labels)}"


def answers_each_with_a_link(text, known):
    for label, _, answer in questions(text):
        if not LINK.search(answer):
            yield f"{label}: a link"


def answers_shortly(text, known):
    for label, _, answer in questions(text):
        if label not in PROVED and (count := words(answer)) > WORDS:
            yield f"{label}: at most {WORDS} words, not {count}"


def questions(text):
    """Return label, question and answer of each."""
    pattern = r"^\((q-[\w-]+)\)=\n### ([^\n]+)\n(.*?)(?=^\([\w-]+\)=$|^## |\Z)"
    return re.findall(pattern, text, re.DOTALL | re.M)


def words(text):
    """Count words of prose: no tables, examples, mathematics or roles."""
    text = re.sub(r"^(```+)(?:pycon|python|bash).*?^\1$", " ", text, flags=re.DOTALL | re.M)
    text = re.sub(r"^\|.*$|^```.*$", " ", text, flags=re.M)
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|\{[\w:]+\}`[^`]*`", " ", text, flags=re.DOTALL)
    return len(re.findall(r"[^\W\d_][\w’'-]*", text))


RULES = (
    has_a_target_for_each_role,
    has_a_file_for_each_link,
    has_many_questions,
    answers_each_with_a_link,
    answers_shortly,
)


@pytest.fixture(scope="module")
def known():
    return targets()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("rule", RULES[:2], ids=lambda rule: rule.__name__)
def test_every_link_has_its_target(name, rule, known):
    assert list(rule(page(name), known)) == []


@pytest.mark.parametrize("rule", RULES[2:], ids=lambda rule: rule.__name__)
def test_questions(rule, known):
    assert list(rule(page("questions"), known)) == []


def test_long_answers_are_answers():
    assert {label for label, _, _ in questions(page("questions"))} >= PROVED


def test_start_page_links_every_door():
    linked = {target for role, target in ROLE.findall(page("index")) if role == "ref"}
    assert linked >= {"ch-questions", "ch-for-teachers", "ch-claims", "ch-a-network-learns"}


# ------------------------------------------------------------------ the page for teachers


def titles():
    """Map the title of each chapter of the table of contents to its file."""
    names = [Path(entry).name for entry in notebooks(numbered=True)]
    first = {name: "".join(chapter(name)[0]["source"]) for name in names}
    return {re.search(r"^# (.+)$", text, re.M)[1]: name for name, text in first.items()}


def lessons():
    """Map each heading of the page's part on chapters to what stands below it."""
    pattern = r"^## Chapter by chapter$(.*?)(?=^## |\Z)"
    part = re.search(pattern, page("for_teachers"), re.DOTALL | re.M)[1]
    return dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", part, re.DOTALL | re.M))


def test_teachers_have_every_chapter_in_order():
    assert list(lessons()) == list(titles())


@pytest.mark.parametrize("title", titles())
def test_lesson(title):
    text, name = lessons()[title], titles()[title]
    assert [part for part in PARTS if f"**{part}.**" not in text] == []
    assert ":class: dropdown" in text  # the model answer
    assert f"{{ref}}`ch-{name.replace('_', '-')}`" in text
    (piece,) = re.findall(r"cell with `([^`]+)`", text)  # the one to run
    code = ["".join(cell["source"]) for cell in chapter(name) if cell["cell_type"] == "code"]
    assert sum(piece in source for source in code) == 1


def test_commands_of_the_teachers_page_exist():
    makefile = (ROOT / "Makefile").read_text("utf8")
    named = set(re.findall(r"`make ([a-z-]+)`", page("for_teachers")))
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.M))


def column(*values):
    return np.array(values, dtype=float)[:, None]


def standardized(mean, var, x):
    return (x - mean) / var**0.5


BATCH = fn.batch_norm_forward(column(1, 1, 1, 5), np.array([3**0.5]), np.array([2.0]), eps=0.0)
SIGNS = fn.batch_norm_forward(2 * column(-1, -1, 1, 1), eps=0.0)[1]
RUNNING = fn.RunningStatistics.initial((1,))
RUNNING.update(np.array([2.0]), np.array([1.0]), 2)
BEHIND_DROPOUT = 1 + 0.2 / 0.8 * (1 + 1) / 1
ANSWERS = [
    ("the factor is 0", 1 - 8 / 8, 0),
    ("1024$. With BN", (0.5 * 4) ** (20 / 2), 1024),
    ("y = (1, 1, 1, 5) = x", BATCH[0].ravel(), (1, 1, 1, 5)),
    (
        "(\\frac14, -\\frac14, 0, 0)",
        fn.batch_norm_backward(column(1, 0, 0, 0), SIGNS)[0].ravel(),
        (0.25, -0.25, 0, 0),
    ),
    ("0.9 + 0.2 = 1.1", (RUNNING.mean[0], RUNNING.var[0]), (0.2, 1.1)),
    ("\\approx 1.72", round(standardized(0.2, 1.1, 2), 2), 1.72),
    ("= 1600$ values", np.ones((16, 32, 10, 10))[:, 0].size, 1600),
    ("R = 1 + ", BEHIND_DROPOUT, 1.5),
    ("\\approx 0.82", round(BEHIND_DROPOUT**-0.5, 2), 0.82),
    ("= 5$. The mean of the", np.var([0, 2, 4, 6]), 5),
    (
        "(0, 0, 1, 3)/\\sqrt5",
        np.maximum(fn.batch_norm_forward(column(-3, -1, 1, 3), eps=0.0)[0].ravel(), 0),
        np.array([0, 0, 1, 3]) / 5**0.5,
    ),
    (
        "(-1, -1, 0, 2)/\\sqrt{1.5}",
        fn.batch_norm_forward(column(0, 0, 1, 3), eps=0.0)[0].ravel(),
        np.array([-1, -1, 0, 2]) / 1.5**0.5,
    ),
    (
        "2 \\cdot (5 - 1)/2 - 3 = 1",
        2 * standardized(1, 4, np.arange(9)) - 3,
        3 * standardized(5, 9, np.arange(9)) + 1,
    ),
    ("= \\sqrt{10}$", np.hypot((3 - 0) / 1, 1 - 2 / 1), 10**0.5),
    ("= 4x - 7", 4 * standardized(3, 4, 2 * np.arange(3) - 1) + 1, 4 * np.arange(3) - 7),
    ("\\approx 0.20", round((4e-5 / 1.03e-3) ** 0.5, 2), 0.2),
]


@pytest.mark.parametrize(("piece", "computed", "answer"), ANSWERS, ids=[p for p, _, _ in ANSWERS])
def test_model_answer(piece, computed, answer):
    assert " ".join(piece.split()) in " ".join(page("for_teachers").split())
    np.testing.assert_allclose(computed, answer, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ each rule can fail

FAULTLESS = "".join(
    f"(q-number-{i})=\n### Is it {i}?\n\nYes, see {{ref}}`ch-inference` "
    "and {py:func}`~bnlib.functional.batch_norm_forward`.\n\n"
    for i in range(QUESTIONS)
)
SMALL = {"label": {"ch-inference"}, "source": set(), "claim": {"regularizes"}}
BROKEN = [
    (has_a_target_for_each_role, "ch-inference", "ch-elsewhere"),
    (has_a_target_for_each_role, "{ref}", "{numref}"),
    (has_a_target_for_each_role, "batch_norm_forward", "batch_norm_sideward"),
    (has_a_target_for_each_role, "Yes, see", "{cite:t}`nobody1999nothing` and"),
    (has_a_target_for_each_role, "Yes, see", "{verdict}`never-measured` and"),
    (has_a_target_for_each_role, "Yes, see", "{doc}`/book/nowhere` and"),
    (has_a_target_for_each_role, "Yes, see", "{refer}`ch-inference` and"),
    (has_a_file_for_each_link, "Yes, see", "[It](nowhere.md) and"),
    (has_a_file_for_each_link, "Yes, see", "[It](index.md#nowhere) and"),
    (has_many_questions, "(q-number-3)=\n### Is it 3?", ""),
    (has_many_questions, "(q-number-3)=", "(q-number-4)="),
    (has_many_questions, "(q-number-3)=", ""),
    (answers_each_with_a_link, "see {ref}`ch-inference` and {py:func}", "see"),
    (answers_shortly, "Yes,", "Yes, " * (WORDS + 1)),
]


@pytest.mark.parametrize(("rule", "old", "new"), BROKEN)
def test_rule_can_fail(rule, old, new):
    assert list(rule(FAULTLESS, SMALL)) == []
    assert old in FAULTLESS
    assert list(rule(FAULTLESS.replace(old, new), SMALL)) != []


def test_every_rule_is_shown_to_fail():
    assert {rule for rule, _, _ in BROKEN} == set(RULES)
