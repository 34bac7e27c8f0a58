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
def main(tmp_path):
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
    listed = re.findall(r"^(\w+): .+\n    '?\w+=", out, re.MULTILINE)
    assert listed == [*registry.all_experiments()]
    assert "norms=none,batch scales=0.5,0.9,1.0,1.1,2.0 depth=50" in out


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
    assert capsys.readouterr().out.count("conditioning ratios") == 4


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
        (["run", "inference", "--fast"], "unrecognized arguments: --fast"),
        (["multiverse", "more-of-it"], "claim: expected one of higher-learning-rates,"),
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
    assert capsys.readouterr().err == "error: no convergence\n"


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


def test_help_is_code_0(main, capsys):
    assert main("run", "--help") == 0
    assert "key=value" in capsys.readouterr().out


def test_module_passes_the_code_on():
    command = [sys.executable, "-W", "error", "-m", "bnlib", "experiments", "run", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown experiment 'nothing'; there are: batch_size,")


def _fail(config):
    raise RuntimeError("no convergence")


def test_run_names_the_extra_that_is_missing(main, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "joblib", None)  # what import takes for "not there"
    assert main("run", "conditioning", "--seeds", "3", "--set", *SMALL) == 1
    assert 'pip install -e ".[book]"' in capsys.readouterr().err
