"""What the ledger says and draws of a multiverse; `test_build.py` builds a card with one."""

import re
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from bnlib.experiments.records.store import FOLDER, MATRIX, Cell, Store, load, save
from bnlib.experiments.records.verdict import Answer, Verdict

ROOT = Path(__file__).parents[2]
MADE = {"date": "2020-02-20", "seconds": 90, "processor": "abacus", "versions": {"bnlib": "1"}}


@pytest.fixture
def bnmultiverse(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    yield __import__("bnmultiverse")
    sys.modules.pop("bnmultiverse")


def verdict(effect, answer, half=0.1, margin=0.2):
    return Verdict("", "", effect, effect - half, effect + half, margin, answer, 8)


def cell(depth, *verdicts, width="8", reason=""):
    cases = {(f"case {i}",) if len(verdicts) > 1 else (): each for i, each in enumerate(verdicts)}
    return Cell({"the depth": depth, "the width": width}, {}, cases, reason, MADE)


YES, NO, NONE = verdict(1.0, "supported"), verdict(-0.5, "refuted"), verdict(0.0, "no effect")


def test_the_folder_is_that_of_the_library(bnmultiverse):
    assert bnmultiverse.FOLDER == FOLDER
    assert bnmultiverse.MATRIX == MATRIX


def test_sentence_counts_settings_and_names_the_axis(bnmultiverse):
    store = Store(
        (), [cell("2", YES), cell("4", YES), cell("8", NONE), cell("8", width="4", reason="x")]
    )
    assert bnmultiverse.headline(store) == "it depends"
    assert bnmultiverse.sentence(store) == (
        "supported in 2 of 3 settings, no effect in 1, 1 setting could not be judged; "
        "it depends on the depth"
    )


def test_sentence_counts_cases(bnmultiverse):
    store = Store(("the case",), [cell("2", YES, NO), cell("4", YES, NO)])
    assert bnmultiverse.sentence(store) == (
        "supported in 2 of 4 cases in 2 settings, refuted in 2; it depends on the case"
    )


def test_headline_of_settings_that_agree_is_their_answer(bnmultiverse):
    store = Store((), [cell("2", YES), cell("4", verdict(0.2, "undecided"))])
    assert store.answer() == "supported: 1 of 2 cases, the others cannot be told"
    assert bnmultiverse.headline(store) == "supported"
    assert bnmultiverse.sentence(store) == "supported in 1 of 2 settings, undecided in 1"


def test_drawing_has_a_dot_for_each_setting_in_the_order_of_the_effects(bnmultiverse):
    svg = bnmultiverse.drawing(Store((), [cell("2", YES), cell("4", NO), cell("8", NONE)]))
    dots = re.findall(r'class="dot-(\w+)" cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert [sign for sign, _, _ in dots] == ["no", "none", "yes"]
    places = np.array([[float(x), float(y)] for _, x, y in dots])
    assert (np.diff(places, axis=0) > 0).all()
    assert places[1, 0] == bnmultiverse.WIDTH / 2
    assert 'role="img"' in svg
    assert "3 effects from -0.5 to 1, half of them above 0; the margin is 0.2." in svg


def test_infinite_ends_are_cut_at_the_edge(bnmultiverse):
    bound = Verdict("", "", np.nan, -np.inf, np.inf, 0.2, "cannot tell", 8)
    svg = bnmultiverse.drawing(Store((), [cell("2", bound), cell("4", YES)]))
    assert f'd="M0.0 4.0H{bnmultiverse.WIDTH:.1f}"' in svg
    assert svg.count("<circle") == 1
    assert "nan" not in svg


def test_a_store_of_failures_is_drawn_and_said(bnmultiverse):
    store = Store((), [cell("2", reason="ValueError: no <rate>")])
    assert bnmultiverse.headline(store) == "cannot tell"
    assert bnmultiverse.sentence(store) == "1 setting could not be judged"
    assert "No effect could be measured." in bnmultiverse.drawing(store)
    assert "ValueError: no &lt;rate&gt;" in bnmultiverse.details(store)


def test_details_name_what_differs_from_the_first_setting(bnmultiverse):
    text = bnmultiverse.details(Store((), [cell("2", YES), cell("4", NO)]))
    first, second = re.findall(r"<li>(.*?)</li>", text)
    assert first.startswith("the base setting → supported, 1.00 (0.90 to 1.10)")
    assert second.startswith("the depth: 4 → refuted, -0.50")
    assert "Computed 2020-02-20 on abacus with bnlib 1, in 3 minutes; 8 seeds a setting." in text


@pytest.mark.parametrize("answer", [*get_args(Answer), "it depends on the rate"])
def test_every_answer_has_a_sign(bnmultiverse, answer):
    style = (ROOT / "book" / "_static" / "bn.css").read_text("utf8")
    sign = bnmultiverse.sign(answer)
    assert sign == "none" or f".dot-{sign} " in style


def test_the_matrix_has_a_row_a_claim_and_shows_the_declared_case(bnmultiverse, tmp_path):
    def norm(name, verdicts, reason=""):
        return Cell({"the norm": name}, {}, verdicts, reason, MADE)

    cells = [
        norm("no norm", {("50 %",): YES, ("75 %",): NONE}),
        norm("batch norm", {("50 %",): NO, ("75 %",): YES}),
        norm("layer norm", {}, "ValueError: no rate"),
    ]
    save(tmp_path / "faster-convergence.json", Store(("the target",), cells))
    titles = bnmultiverse.titles(ROOT / "book" / "claims.yml")
    head, row = bnmultiverse.matrix_rows(tmp_path, titles)
    assert head == ["The claim", "no norm", "batch norm", "layer norm"]
    assert row[0] == "Training converges faster (75 %)"
    assert [answer for answer, _ in row[1:]] == ["no effect", "supported", "not judged"]
    assert row[2][1] == "1.00 (0.90 to 1.10)"
    assert row[3][1] == "ValueError: no rate"


def test_titles_are_plain_words(bnmultiverse):
    titles = bnmultiverse.titles(ROOT / "book" / "claims.yml")
    assert titles["reduces-covariate-shift"] == "It reduces internal covariate shift"
    assert titles["regularizes-mildly"] == "It regularizes mildly"
    assert not [title for title in titles.values() if "`" in title or "{" in title]


def test_what_centring_and_scaling_says_of_the_norms(bnmultiverse):
    found = bnmultiverse.matrix(ROOT / MATRIX)
    halves = "centring alone", "scaling alone"
    others = "layer norm", "RMS norm", "dynamic tanh", "batch norm, detached"
    explode = {norm: each.answer for norm, each in found["gradients-explode"].items()}
    assert {norm for norm, answer in explode.items() if answer == "supported"} == {
        "batch norm", "scaling alone", "batch norm, detached",
    }  # fmt: skip
    assert {explode[norm] for norm in ("centring alone", "layer norm", "RMS norm")} == {"refuted"}
    faster = found["faster-convergence"]
    assert {faster[norm].answer for norm in (*halves, "batch norm")} == {"supported"}
    assert {faster[norm].answer for norm in others} == {"undecided", "cannot tell"}
    rates = found["higher-learning-rates"]
    assert {rates[norm].answer for norm in halves} == {"undecided"}
    assert abs(rates[halves[0]].effect - rates[halves[1]].effect) < 0.1
    assert rates["batch norm"].answer == "supported"


def test_what_learning_rate_and_convergence_says_of_the_landscape():
    store = load(ROOT / FOLDER / "smoother-landscape.json")
    answers = [
        (cell.setting["the number of steps"], case[1], verdict.answer)
        for cell in store.cells
        for case, verdict in cell.verdicts.items()
        if case[0] == "loss range"
    ]
    equal = [a for _, time, a in answers if time == "at equal loss" and a != "cannot tell"]
    assert equal.count("supported") > 0.8 * len(equal)
    assert "refuted" not in equal
    late = [a for steps, time, a in answers if steps in ("1600", "3200") and time == "at the end"]
    assert late.count("refuted") > len(late) / 2


def test_what_internal_covariate_shift_says_of_an_injected_shift():
    cells = load(ROOT / FOLDER / "covariate-shift-is-why.json").cells
    own = cells[0].setting
    answers = {}
    for cell in cells:
        changed = {key: level for key, level in cell.setting.items() if level != own[key]}
        if len(changed) < 2:
            (verdict,) = cell.verdicts.values()
            answers[tuple(changed.values())] = verdict.answer
    for level in ("momentum", "Adam", "tanh", "MNIST-1D"):
        assert answers[level,] == "supported"
    assert answers[()] == "refuted"
    other_seeds = [answer for level, answer in answers.items() if "".join(level).startswith("from")]
    assert {*other_seeds} == {"refuted"}


def test_what_alternatives_says_of_small_mini_batches():
    answers = {"mini-batch 2": set(), "mini-batch 4": set(), "mini-batch 8": set()}
    for cell in load(ROOT / FOLDER / "small-mini-batches.json").cells:
        for (size,), verdict in cell.verdicts.items():
            answers[size].add(verdict.answer)
    assert answers["mini-batch 2"] == {"supported"}
    assert "supported" not in answers["mini-batch 8"]


def test_what_convolution_says_of_longer_training():
    own, *others = load(ROOT / FOLDER / "varying-inputs.json").cells
    (longer,) = (c for c in others if c.setting == own.setting | {"the number of steps": "480"})
    train, evaluated = longer.verdicts["train mode",], longer.verdicts["eval mode",]
    assert train.answer == "undecided"
    assert train.high < own.verdicts["train mode",].low
    assert evaluated.high < own.verdicts["eval mode",].low
