"""Claims over many settings: the declaration, the runs, the store, and whether it is still true."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from bnlib.experiments import conditioning
from bnlib.experiments.records import multiverse, settings
from bnlib.experiments.records.multiverse import Judged, Multiverse, run
from bnlib.experiments.records.store import FOLDER, MATRIX, Cell, Store, load, save
from bnlib.experiments.records.verdict import Between, paired_verdict

ROOT = Path(__file__).parents[3]
STORES, TABLE = ROOT / FOLDER, ROOT / MATRIX
SMALL = Multiverse(
    "conditioning",
    {"ratio": Judged("judge")},
    {"m": 10, "tolerance": 0.1, "ratios": (1.0, 5.0)},
    {
        "the noise": {"0.5": {}, "1": {"noise": 1.0}},
        "the correlation": {"0.8": {}, "0": {"correlation": 0.0}, "0.3": {"correlation": 0.3}},
    },
    combinations=1,
)


def claims():
    """Read the tested claims: key -> entry."""
    listed = yaml.safe_load((ROOT / "book" / "claims.yml").read_text("utf8"))
    return {entry["verdict"]: entry for entry in listed if "verdict" in entry}


def ids(multiverses):
    return [next(iter(each.claims)) for each in multiverses]


# ------------------------------------------------------------------ the declaration


THEOREMS = {
    "bias-before-it-is-redundant": "{prf:ref}`thm-forward-pass-invariance`",
    "gamma-and-beta-undo-it": "{prf:ref}`thm-forward-pass-identity`",
    "makes-activations-gaussian": "{eq}`eq-forward-pass-standardize`",
}
"""Claims that a proof decides in all settings, and where it stands; the ledger says so, too."""


def test_every_tested_claim_has_a_multiverse_or_is_a_theorem():
    declared = [key for each in settings.ALL for key in each.claims]
    assert sorted([*declared, *THEOREMS]) == sorted(claims())
    assert {key for key, entry in claims().items() if "proof" in entry} == {*THEOREMS}


@pytest.mark.parametrize("key", THEOREMS)
def test_a_theorem_says_where_its_proof_stands(key):
    entry, place = claims()[key], THEOREMS[key]
    assert place in entry["proof"]
    chapter = (ROOT / "book" / "forward_pass.ipynb").read_text("utf8")
    label = place.split("`")[1]
    assert f":label: {label}" in chapter or f"$$ ({label})" in chapter


@pytest.mark.parametrize("each", settings.ALL, ids=ids(settings.ALL))
def test_declaration(each):
    declared, configs = each.settings(), each.configs()
    assert len(declared) >= 24
    assert len({json.dumps(setting) for setting in declared}) == len(declared)
    assert len(set(configs)) == len(configs)
    assert [config.seeds for config in configs] == [16] + [8] * (len(configs) - 1)
    assert not any(next(iter(levels.values())) for levels in each.axes.values())
    fields = Counter(
        field
        for levels in each.axes.values()
        for field in {name for level in levels.values() for name in level}
    )
    assert {*fields.values()} == {1}, "a field belongs to one axis"


def number(value):
    """Write a number, or a tuple of one, as the levels of axes have it; else None."""
    (value,) = value if isinstance(value, tuple) and len(value) == 1 else (value,)
    return f"{value:g}" if isinstance(value, int | float) else None


@pytest.mark.parametrize("each", settings.ALL, ids=ids(settings.ALL))
def test_the_first_level_of_an_axis_of_numbers_is_the_number_of_the_base(each):
    own, named = each.configs()[0], 0
    for levels in each.axes.values():
        for level, fields in levels.items():
            for field in [name for name, value in fields.items() if number(value) == level]:
                assert number(getattr(own, field)) == next(iter(levels)), field
                named += 1
    assert named > 0


def test_settings_are_one_at_a_time_and_then_combined():
    own, *others = SMALL.settings()
    assert own == {"the noise": "0.5", "the correlation": "0.8"}
    changes = [sum(setting[axis] != own[axis] for axis in own) for setting in others]
    assert changes == [1, 1, 1, 2]
    assert SMALL.settings() == SMALL.settings()


# ------------------------------------------------------------------ runs


def test_run_stores_each_setting(tmp_path):
    store = run(SMALL, folder=tmp_path)["ratio"]
    read = load(tmp_path / "ratio.json")
    assert [cell.setting for cell in read.cells] == SMALL.settings()
    for cell, config in zip(store.cells, SMALL.configs(), strict=True):
        (verdict,) = cell.verdicts.values()
        expected = conditioning.judge(conditioning.run(config))
        assert (verdict.effect, verdict.answer) == (expected.effect, expected.answer)
        assert cell.made["versions"]["bnlib"]
    assert read.counts() == store.counts()
    assert read.verdicts() == {
        key: replace(verdict, claim="", source="") for key, verdict in store.verdicts().items()
    }


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    ran, original = [], conditioning.run

    def stopped(config):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(config)
        return original(config)

    monkeypatch.setattr(conditioning, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(SMALL, folder=tmp_path)
    assert len(load(tmp_path / "ratio.json").cells) == 2
    monkeypatch.setattr(conditioning, "run", lambda config: ran.append(config) or original(config))
    run(SMALL, folder=tmp_path)
    assert ran == SMALL.configs()
    assert len(load(tmp_path / "ratio.json").cells) == 5


def test_changed_settings_are_run_again_and_dropped_ones_leave(tmp_path):
    run(SMALL, folder=tmp_path)
    axes = {"the noise": {"0.5": {}, "1": {"noise": 0.9}}}
    store = run(replace(SMALL, axes=axes, combinations=0), folder=tmp_path)["ratio"]
    assert [cell.fields.get("noise") for cell in store.cells] == [None, 0.9]


def test_a_setting_that_fails_costs_only_itself(tmp_path, monkeypatch):
    original = conditioning.run

    def fails(config):
        if config.noise == 1.0 and config.correlation == 0.8:
            raise RuntimeError("no convergence")
        return original(config)

    monkeypatch.setattr(conditioning, "run", fails)
    run(SMALL, folder=tmp_path)
    store = load(tmp_path / "ratio.json")
    reasons = [cell.reason for cell in store.cells]
    assert reasons == ["", "RuntimeError: no convergence", "", "", ""]
    assert store.counts()["not judged"] == 1
    assert len(store.verdicts()) == 4


def test_a_setting_that_cannot_be_judged_leaves_its_reason(tmp_path, monkeypatch):
    def refuses(result):
        raise ValueError("no variance")

    monkeypatch.setattr(conditioning, "judge", refuses)
    store = run(SMALL, folder=tmp_path)["ratio"]
    assert {cell.reason for cell in store.cells} == {"ValueError: no variance"}
    assert store.answer() == "cannot tell"


def test_cases_that_the_factors_do_not_tell_apart_are_not_judged(tmp_path, monkeypatch):
    verdict = conditioning.judge(conditioning.run(SMALL.configs()[0]))
    monkeypatch.setattr(conditioning, "judge", lambda result: {"a": verdict, "b": verdict})
    store = run(SMALL, folder=tmp_path)["ratio"]
    assert "tell the cases [('a',), ('b',)] apart" in store.cells[0].reason


def test_parallel_runs_find_the_same(tmp_path):
    one, two = (run(SMALL, folder=tmp_path / f"{n}", jobs=n)["ratio"] for n in (1, 2))
    assert one.verdicts() == two.verdicts()


# ------------------------------------------------------------------ the store


def test_infinite_numbers_survive_in_valid_json(tmp_path):
    never = Between([200.0, 200.0], [np.inf, np.inf])
    verdicts = {
        ("slower",): paired_verdict("", "", never, [90, 80], 5),
        ("lost",): paired_verdict("", "", never, never, 5),
    }
    cell = Cell({"a": "1"}, {}, verdicts, "", {})
    save(tmp_path / "x.json", Store(("the case",), [cell]))
    text = (tmp_path / "x.json").read_text("utf8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    slower, lost = load(tmp_path / "x.json").cells[0].verdicts.values()
    assert slower == verdicts["slower",]
    assert (lost.low, lost.high) == (-np.inf, np.inf)
    assert np.isnan(lost.effect)


def test_answer_names_the_axis_that_changes_it():
    more = paired_verdict("", "", [0.9, 0.8, 0.9], [0.2, 0.1, 0.3], 0.1)
    less = paired_verdict("", "", [0.2, 0.1, 0.3], [0.9, 0.8, 0.9], 0.1)
    cells = [
        Cell({"the depth": depth, "the width": width}, {}, {(): verdict}, "", {})
        for depth, width, verdict in (("1", "8", more), ("1", "16", more), ("2", "8", less))
    ]
    store = Store((), cells)
    assert store.answer() == "it depends on the depth"
    assert store.counts() == {"supported": 2, "refuted": 1}


def test_load_names_a_file_that_is_no_store(tmp_path):
    assert load(tmp_path / "x.json") is None
    (tmp_path / "x.json").write_text("[]", "utf8")
    with pytest.raises(ValueError, match=r"x\.json: expected a store"):
        load(tmp_path / "x.json")


# ------------------------------------------------------------------ is it still true?


def test_stores_are_those_of_the_declaration():
    declared = {key: each for each in settings.ALL for key in each.claims}
    assert {path.stem for path in STORES.glob("*.json")} == declared.keys()
    for key in declared:
        cells, each = load(STORES / f"{key}.json").cells, declared[key]
        fields = [multiverse._changed(config) for config in each.configs()]
        assert [cell[:2] for cell in cells] == list(zip(each.settings(), fields, strict=True)), key


def test_the_matrix_has_the_stores_of_its_declaration():
    declared = {key: each for each in settings.MATRIX for key in each.claims}
    assert {path.stem for path in TABLE.glob("*.json")} == declared.keys()
    for key, each in declared.items():
        cells = load(TABLE / f"{key}.json").cells
        fields = [multiverse._changed(config) for config in each.configs()]
        assert [cell[:2] for cell in cells] == list(zip(each.settings(), fields, strict=True)), key
        assert all(settings.SHOWN[key] in cell.verdicts for cell in cells), key


@pytest.mark.parametrize("each", settings.MATRIX, ids=ids(settings.MATRIX))
def test_the_matrix_has_one_row_a_norm_and_its_control_first(each):
    configs = each.configs()
    assert [config.seeds for config in configs] == [16] + [8] * (len(settings.ABLATED) - 1)
    assert {config.norms[0] for config in configs} == {"none"}
    treatments = [config.norms[1] for config in configs]
    assert treatments[:2] == ["none again", "identity"]
    assert len({*treatments}) == len(settings.ABLATED)


@pytest.mark.parametrize("each", settings.MATRIX, ids=ids(settings.MATRIX))
def test_a_norm_of_the_matrix_computed_again_agrees_with_the_store(each):
    agrees_with_the_store(each, TABLE)


def cheapest(each, folder=STORES):
    """Return the number of the setting that took the least time and could be judged."""
    store = load(folder / f"{next(iter(each.claims))}.json")
    judged = [i for i, cell in enumerate(store.cells) if cell.verdicts]
    return min(judged, key=lambda i: store.cells[i].made["seconds"])


@pytest.mark.parametrize("each", settings.ALL, ids=ids(settings.ALL))
def test_a_setting_computed_again_agrees_with_the_store(each):
    agrees_with_the_store(each, STORES)


def agrees_with_the_store(each, folder):
    index = cheapest(each, folder)
    _, cells = multiverse.measure(each, index)
    for key, cell in cells.items():
        stored = load(folder / f"{key}.json").cells[index].verdicts
        assert stored.keys() == cell.verdicts.keys()
        for case, new in cell.verdicts.items():
            assert_agree(stored[case], new)


def test_an_effect_that_moved_by_a_margin_does_not_agree():
    old = paired_verdict("", "", [0.9, 0.8, 0.9], [0.2, 0.1, 0.3], 0.1)
    assert_agree(old, replace(old, effect=old.effect + 0.04))
    for other in (replace(old, effect=old.effect + 0.1), replace(old, answer="no effect")):
        with pytest.raises(AssertionError):
            assert_agree(old, other)


def assert_agree(old, new):
    """Rounding grows in training; it may move an effect by half a margin, and an answer with it."""
    far = 0.5 * max(old.margin, 0.1 * abs(old.effect) if np.isfinite(old.effect) else 0)
    np.testing.assert_allclose(new.effect, old.effect, rtol=0, atol=far)
    ends = np.subtract.outer([old.low, old.high], [-old.margin, old.margin])
    if np.abs(ends).min() > far:
        assert new.answer == old.answer
