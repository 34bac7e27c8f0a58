from dataclasses import dataclass, replace

import pytest

from bnlib.experiments.records import registry, report
from bnlib.experiments.records.verdict import paired_verdict


@dataclass(frozen=True)
class Config:
    """Sizes.

    Attributes
    ----------
    norms : tuple of str
        Arms.
    depth : int
        Layers.
    rate : float
        Learning rate.
    """

    norms: tuple[str, ...] = ("none", "batch")
    depth: int = 2
    rate: float = 0.1


EXPERIMENT = registry.Experiment("made", "It is made up.", Config, None, None, None)
MORE = paired_verdict("More.", "a paper", [1.0, 1.1], [0.0, 0.0], 0.1)
LESS = paired_verdict("More.", "a paper", [-1.0, -1.1], [0.0, 0.0], 0.1)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_a_claim_of_several_cases_is_printed_once():
    text = report.verdicts(EXPERIMENT, report.Run(Config(depth=3), {"a": MORE, "b": LESS}))
    assert text.splitlines() == [
        "made depth=3",
        "    More. Source: a paper.",
        f"        a: supported: effect {MORE.in_numbers()}, margin 0.1, 2 seeds",
        f"        b: refuted: effect {LESS.in_numbers()}, margin 0.1, 2 seeds",
    ]


def test_other_arms_than_the_claim_names_are_said():
    text = report.verdicts(EXPERIMENT, report.Run(Config(norms=("none", "layer")), {"a": MORE}))
    assert "Here the control is none and the treatment layer." in text


def answered(answer):
    return replace(MORE, answer=answer)


def test_the_table_of_a_sweep_says_on_which_setting_each_case_depends():
    runs = [
        report.Run(Config(depth=d, rate=r), {"a": answered(one), "b": answered("supported")})
        for d, r, one in ((1, 0.1, "supported"), (2, 0.1, "refuted"), (1, 1.0, "supported"))
    ]
    runs.append(report.Run(Config(rate=1.0), {}, "it diverged"))
    lines = [" ".join(line.split()) for line in report.table(runs).splitlines()]
    numbers = MORE.in_numbers()
    assert lines == [
        "depth rate answer effect",
        "a: it depends on the depth",
        f"1 0.1 supported {numbers}",
        f"2 0.1 refuted {numbers}",
        f"1 1.0 supported {numbers}",
        "b: supported",
        f"1 0.1 supported {numbers}",
        f"2 0.1 supported {numbers}",
        f"1 1.0 supported {numbers}",
        "not judged:",
        "2 1.0 failed",
    ]


def test_parts_of_a_case_that_repeat_the_setting_are_left_out():
    runs = [
        report.Run(Config(depth=d), {(f"depth {d}", "early"): MORE, (f"depth {d}", "late"): LESS})
        for d in (1, 2)
    ]
    table = report.table(runs)
    assert "\nearly: " in table
    assert "depth 1" not in table
    assert [*report.rows(runs)] == [
        "early; depth=1", "early; depth=2", "late; depth=1", "late; depth=2"
    ]  # fmt: skip
    assert [*report.rows(runs[:1])] == ["depth 1, early", "depth 1, late"]


def test_lines_end_where_the_terminal_does(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    for experiment in registry.all_experiments().values():
        for text in (report.listing(experiment), report.description(experiment)):
            for line in text.splitlines():
                assert len(line) <= 40 or " " not in line.strip()


def test_description_has_the_values_and_the_meaning_of_each_key():
    text = report.description(registry.find("inference"))
    assert "\nnorm=batch  (one of batch, none)\n" in text
    assert "\ndepth=2  (a whole number)\nwidth=64  (a whole number)\n    Hidden layers, and" in text
