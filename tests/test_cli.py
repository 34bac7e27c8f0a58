"""The command line: what it prints and writes, and its exit codes."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import slow_experiment

from bnlib import cli
from bnlib.experiments import conditioning
from bnlib.experiments.records import cache, registry, settings
from bnlib.experiments.records.multiverse import Judged, Multiverse
from bnlib.experiments.records.store import load

SMALL = ["m=10", "tolerance=0.1", "ratios=1,5"]


@pytest.fixture
def main(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        if "run" in arguments:
            arguments = [*arguments, "--cache", str(tmp_path / "cache")]
        try:
            return cli.main(["experiments", *arguments])
        except SystemExit as end:  # argparse leaves in this way
            return end.code

    return run


def test_list_names_every_experiment_and_its_keys(main, capsys):
    assert main("list") == 0
    out = capsys.readouterr().out
    assert re.findall(r"^(\w+): ", out, re.MULTILINE) == [*registry.all_experiments()]
    assert "norms=none,batch scales=0.5,0.9,1.0,1.1,2.0 depth=50" in " ".join(out.split())


def test_describe_explains_the_keys(main, capsys):
    assert main("describe", "inference") == 0
    assert (
        'norm=batch  (one of batch, none)\n    "none" leaves batch norm' in capsys.readouterr().out
    )


def test_run_prints_the_verdict_and_writes_everything(main, tmp_path, capsys):
    out = tmp_path / "out.json"
    code = main("run", "conditioning", "--seeds", "3", "--set", *SMALL, "--out", str(out))
    assert code == 0
    result = conditioning.run(conditioning.Config(m=10, tolerance=0.1, ratios=(1.0, 5.0), seeds=3))
    verdict = conditioning.judge(result)
    printed = capsys.readouterr().out
    assert printed.startswith("conditioning ratios=1.0,5.0 m=10 seeds=3 tolerance=0.1\n")
    assert f"{verdict.answer}: effect {verdict.in_numbers()}, margin" in printed
    assert "3 seeds" in printed
    read = json.loads(out.read_text())
    assert read["experiment"] == "conditioning"
    (entry,) = read["runs"]
    assert entry["versions"] == cache.versions()
    assert entry["config"]["ratios"] == [1.0, 5.0]
    assert entry["verdicts"]["conditioning"]["effect"] == verdict.effect
    assert entry["seconds"] > 0
    np.testing.assert_array_equal(entry["result"]["steps"], result.steps)


def test_a_second_run_takes_the_stored_result(main, monkeypatch, tmp_path):
    monkeypatch.setattr(cli.registry, "find", lambda name: slow_experiment.EXPERIMENT)
    for _ in range(2):
        assert main("run", "slow", "--set", f"folder={tmp_path}") == 0
    assert slow_experiment.calls(tmp_path) == [1, 0, 0, 0]


def test_a_key_given_several_times_is_swept(main, tmp_path, capsys):
    out = tmp_path / "out.json"
    settings = [
        "--set",
        *SMALL,
        "noise=0.5",
        "--set",
        "noise=1",
        "correlation=0",
        "correlation=0.5",
    ]
    assert main("run", "conditioning", "--seeds", "2", *settings, "--out", str(out)) == 0
    runs = json.loads(out.read_text())["runs"]
    swept = [(run["config"]["noise"], run["config"]["correlation"]) for run in runs]
    assert swept == [(0.5, 0), (0.5, 0.5), (1, 0), (1, 0.5)]
    printed = capsys.readouterr().out
    assert printed.count("conditioning ratios") == 4
    assert re.search(r"\n    correlation +noise +answer +effect\nconditioning: \w+\n", printed)
    assert re.search(r"\n    0.5 +1.0 +\w+ +\d", printed)


def test_a_config_that_fails_costs_only_itself(main, monkeypatch, tmp_path, capsys):
    fails = slow_experiment.EXPERIMENT._replace(run=_fail_at_1)
    monkeypatch.setattr(cli.registry, "find", lambda name: fails)
    out, plot = tmp_path / "out.json", tmp_path / "plot.svg"
    indices = [f"index={i}" for i in range(3)]
    files = ["--out", str(out), "--plot", str(plot)]
    assert main("run", "slow", "--set", f"folder={tmp_path}", *indices, *files) == 1
    output = capsys.readouterr()
    assert output.err == f"error: slow folder={tmp_path} index=1: no convergence\n"
    assert output.out.count("It learns.") == 2
    assert re.search(r"not judged:\n    1 +failed\n", output.out)
    runs = json.loads(out.read_text())["runs"]
    assert [run.get("error") for run in runs] == [None, "no convergence", None]
    assert runs[2]["verdicts"]["slow"]["seeds"] == 2
    assert plot.read_text().startswith("<?xml")
    assert main("run", "slow", "--set", f"folder={tmp_path}", *indices[::2]) == 0
    assert slow_experiment.calls(tmp_path) == [1, 0, 1, 0]


def test_a_result_that_cannot_be_judged_is_written(main, monkeypatch, tmp_path, capsys):
    empty = slow_experiment.EXPERIMENT._replace(judge=lambda result: {})
    monkeypatch.setattr(cli.registry, "find", lambda name: empty)
    out = tmp_path / "out.json"
    assert main("run", "slow", "--set", f"folder={tmp_path}", "--out", str(out)) == 1
    assert "there is nothing to judge" in capsys.readouterr().err
    (run,) = json.loads(out.read_text())["runs"]
    assert run["error"]
    assert len(run["result"]["loss"]) == 2


def test_plot_shows_every_case(main, tmp_path):
    plot = tmp_path / "plot.svg"
    small = ["layers=1,3", "width=8", "m=6"]
    assert main("run", "rank_collapse", "--seeds", "3", "--set", *small, "--plot", str(plot)) == 0
    assert plot.read_text().count("rank, before ReLU") == 3


def test_one_config_shows_its_own_progress(main, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main("run", "conditioning", "--seeds", "2", "--set", *SMALL) == 0
    assert "ratio" in capsys.readouterr().err
    assert main("run", "conditioning", "--seeds", "2", "--set", *SMALL, "noise=1", "noise=2") == 0
    assert "config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["walk"], "invalid choice: 'walk'"),
        (["run"], "required: NAME"),
        (["run", "inferense"], "unknown experiment 'inferense' (did you mean inference?)"),
        (["run", "inference", "--set", "nrm=batch"], "unknown key 'nrm' (did you mean norm?)"),
        (["run", "inference", "--set", "norm=layer"], "norm: expected one of batch, none"),
        (["run", "inference", "--set", "lr=fast"], "lr: expected a number, got 'fast'"),
        (["run", "inference", "--set", "lr"], "'lr': expected key=value"),
        (["run", "inference", "--set", "batch_size=7"], "expected divisors of n_test, got 7"),
        (["run", "convolution", "--set", "dataset=cats"], "dataset: expected one of"),
        (["run", "inference", "--seeds", "1"], "expected a whole number of at least 2, got '1'"),
        (["run", "inference", "--seeds", "2", "--set", "seeds=3"], "got both"),
        (["run", "inference", "--jobs", "0"], "at least 1, or -1: '0'"),
        (["run", "inference", "--out", "no/such/folder.json"], "--out: expected a file in"),
        (["describe", "inferense"], "did you mean inference?"),
        (["run", "inference", "--plot", "no/such/folder.svg"], "--plot: expected a file in"),
        (["run", "inference", "--plot", "plot.txt"], "--plot: expected a file that ends in one of"),
        (["run", "inference", "--set", "seeds=1"], "seeds: expected at least 2, got 1"),
        (["run", "learning_rates", "--set", "rates=1,0.1"], "rates: expected increasing"),
        (["run", "learning_rates", "--set", "scales=2,3"], "scales: expected 1 among them"),
        (["run", "learning_rates", "--set", "norms=none"], "learning_rates norms=none: norms: exp"),
        (["run", "rank_collapse", "--set", "layers=9,1"], "layers: expected increasing"),
        (["run", "smoothness", "--set", "norms=none,batch,layer"], "best: expected none, or a"),
        (["run", "smoothness", "--set", "every=400"], "every: expected a record in the"),
        (["run", "covariate_shift", "--set", "depths=3"], "depths: expected one for each of"),
        (["run", "shifted_batch_norm", "--set", "strengths=0"], "strengths: expected 0 and at"),
        (["run", "small_batches", "--set", "sizes=16,32"], "sizes: expected one of (2, 4, 8)"),
        (["run", "small_batches", "--set", "norms=batch"], "norms: expected two arms"),
        (["run", "gradient_accumulation", "--set", "parts=1"], "parts: expected one above 1"),
        (["run", "convolution", "--set", "arms=none"], "arms: expected none and batch among them"),
        (["run", "divergence", "--set", "norms=batch"], "norms: expected none as the first"),
        (["run", "effective_rates", "--set", "rates=1"], "rates: expected at least two"),
        (["run", "gradient_growth", "--set", "cases=ReLU"], "cases: expected some of sigmoid"),
        (["run", "inference", "--fast"], "unrecognized arguments: --fast"),
        (["multiverse", "higher-rates"], "(did you mean higher-learning-rates?); there are: "),
        (["multiverse", "--all", "--folder", "no/such/folder"], "--folder: expected a folder in"),
        (["multiverse"], "NAME --all is required"),
    ],
)
def test_wrong_usage_is_code_2_with_a_message_and_no_traceback(main, capsys, arguments, message):
    assert main(*arguments) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert not output.out
    assert "Traceback" not in output.err


def test_a_run_that_fails_is_code_1(main, monkeypatch, capsys):
    monkeypatch.setattr(
        cli.registry, "find", lambda name: slow_experiment.EXPERIMENT._replace(run=_fail)
    )
    assert main("run", "slow") == 1
    assert capsys.readouterr().err == "error: slow: ZeroDivisionError: not a number\n"


def test_multiverse_stores_and_prints_what_was_found(main, monkeypatch, tmp_path, capsys):
    small = Multiverse(
        "conditioning",
        {"more-of-it": Judged("judge")},
        {"m": 10, "tolerance": 0.1, "ratios": (1.0, 5.0)},
        {"the noise": {"0.5": {}, "1": {"noise": 1.0}}},
        combinations=0,
    )
    monkeypatch.setattr(settings, "ALL", (small,))
    assert main("multiverse", "more-of-it", "--folder", str(tmp_path / "stores")) == 0
    store = load(tmp_path / "stores" / "more-of-it.json")
    printed = capsys.readouterr().out
    assert printed.startswith(f"more-of-it: {store.answer()}\n    2 settings: ")
    assert main("multiverse", "--all", "--folder", str(tmp_path / "stores")) == 0
    assert capsys.readouterr().out == printed


def test_matrix_fills_the_stores_of_the_norms(main, monkeypatch, tmp_path, capsys):
    small = Multiverse(
        "conditioning",
        {"more-of-it": Judged("judge")},
        {"m": 10, "tolerance": 0.1, "ratios": (1.0, 5.0)},
        {"the noise": {"0.5": {}}},
        combinations=0,
    )
    monkeypatch.setattr(settings, "MATRIX", (small,))
    assert main("matrix", "--folder", str(tmp_path / "stores")) == 0
    assert len(load(tmp_path / "stores" / "more-of-it.json").cells) == 1
    assert capsys.readouterr().out.startswith("more-of-it: ")
    assert main("matrix", "--folder", "no/such/folder") == 2


def test_help_is_code_0(main, capsys):
    assert main("run", "--help") == 0
    assert "key=value" in capsys.readouterr().out


def test_module_passes_the_code_on():
    command = [sys.executable, "-W", "error", "-m", "bnlib", "experiments", "run", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown experiment 'nothing'; there are: batch_size,")


def _fail(config):
    raise ZeroDivisionError("not a number")


def _fail_at_1(config):
    if config.index == 1:
        raise RuntimeError("no convergence")
    return slow_experiment.run(config)


def test_run_names_the_extra_that_is_missing(main, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "joblib", None)  # what import takes for "not there"
    assert main("run", "conditioning", "--seeds", "3", "--set", *SMALL) == 1
    assert 'pip install -e ".[book]"' in capsys.readouterr().err
