"""``python -m bnlib doctor``: what it loads, prints and returns."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bnlib import cli
from bnlib.doctor import all_rules

MODULE = """
import torch
from torch import nn

def healthy():
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

def keras():
    model = healthy()
    model[1].momentum = 0.99
    return model

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(*keras())

built = keras()
number = 3
batches = [torch.randn(32, 4)]

def loader():
    return [torch.randn(4, 4)]

wide = [torch.randn(4, 5)]

def broken():
    raise OSError("no such weights")
"""


@pytest.fixture
def doctor(tmp_path, monkeypatch, capsys):
    (tmp_path / "some_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield lambda *arguments: _run(capsys, arguments)
    sys.modules.pop("some_models", None)


def _run(capsys, arguments):
    try:
        code = cli.main(["doctor", *map(str, arguments)])
    except SystemExit as end:  # argparse leaves in this way
        code = end.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_healthy_model(doctor):
    code, out, _ = doctor("some_models:healthy", "--batches", "some_models:batches")
    assert code == 0
    assert out.startswith("1 norm, ")
    assert "nothing found" in out


@pytest.mark.parametrize("name", ["keras", "Net", "built"])
def test_a_finding_is_exit_code_1(doctor, name):
    code, out, _ = doctor(f"some_models:{name}")
    assert code == 1
    assert "warning: large-momentum at 1" in out


def test_what_fails_is_chosen(doctor):
    assert [doctor("some_models:keras", "--fail-on", each)[0] for each in ("error", "never")] == [
        0,
        0,
    ]
    assert doctor("some_models:keras", "--fail-on", "note")[0] == 1
    assert doctor("some_models:keras", "--fail-on", "fatal")[0] == 2


def test_batches_may_come_from_a_function(doctor):
    code, out, _ = doctor("some_models:healthy", "--batches", "some_models:loader")
    assert code == 1
    assert "few-values" in out


def test_rules_are_selected_and_ignored(doctor):
    assert doctor("some_models:keras", "--ignore", "mixed-eps, large-momentum")[0] == 0
    assert doctor("some_models:keras", "--select", "mixed-eps")[0] == 0
    code, _, error = doctor("some_models:keras", "--select", "large-momentun")
    assert code == 2
    assert "did you mean large-momentum?" in error


def test_json_is_a_baseline_for_later(doctor, tmp_path):
    code, out, _ = doctor("some_models:keras", "--format", "json")
    assert code == 1
    [finding] = json.loads(out)["findings"]
    assert (finding["rule"], finding["where"]) == ("large-momentum", ["1"])
    (tmp_path / "known.json").write_text(out)
    code, out, _ = doctor("some_models:keras", "--baseline", "known.json")
    assert (code, "nothing found" in out) == (0, True)
    code, out, _ = doctor(
        "some_models:keras", "--batches", "some_models:loader", "--baseline", "known.json"
    )
    assert (code, "few-values" in out, "large-momentum" in out) == (1, True, False)


def test_sarif(doctor):
    code, out, _ = doctor("some_models:keras", "--format", "sarif")
    [run] = json.loads(out)["runs"]
    assert code == 1
    assert [each["ruleId"] for each in run["results"]] == ["large-momentum"]


@pytest.fixture
def weights():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    model[1].running_var[2] = -1.0
    return model.state_dict()


def test_files_of_weights(doctor, tmp_path, weights):
    torch.save(weights, tmp_path / "plain.pt")
    torch.save({"epoch": 3, "model": weights}, tmp_path / "nested.pth")
    save_file(weights, tmp_path / "weights.safetensors")
    for name in ("plain.pt", "nested.pth", "weights.safetensors"):
        code, out, _ = doctor(tmp_path / name)
        assert code == 1
        assert "error: negative-variance at 1" in out


def test_a_file_cannot_run_code(doctor, tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    code, _, error = doctor("whole.pt")
    assert code == 3
    assert "weights_only" in error.lower() or "Weights only" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected package.module:name or a file"),
        (["some_models"], "expected package.module:name"),
        (["some_models:nothing"], "some_models has no 'nothing'"),
        (["no_models_here:make"], "no module 'no_models_here'"),
        (["some_models:number"], "expected a torch.nn.Module, got int"),
        (["absent.pt"], "no file absent.pt"),
        (["some_models:keras", "--batches", "some_models:number"], "batches"),
        (["some_models:keras", "--baseline", "absent.json"], "--baseline"),
        (["some_models:keras", "--baseline", "some_models.py"], "no report of --format json"),
    ],
)
def test_wrong_usage_is_exit_code_2(doctor, arguments, words):
    code, out, error = doctor(*arguments)
    assert (code, out) == (2, "")
    assert words in error


def test_a_file_without_or_with_several_state_dicts_is_refused(doctor, tmp_path, weights):
    for content in ({"epoch": 3}, {"network": weights, "target": weights}, [1, 2]):
        torch.save(content, tmp_path / "odd.pt")
        code, _, error = doctor("odd.pt")
        assert (code, "no state dict, or several" in error) == (2, True)


def test_a_model_that_fails_is_exit_code_3(doctor):
    code, _, error = doctor("some_models:broken")
    assert (code, "no such weights" in error) == (3, True)
    code, _, error = doctor("some_models:healthy", "--batches", "some_models:wide")
    assert (code, "showed the model a batch" in error) == (3, True)


def test_rules_are_listed_and_explained(doctor):
    code, out, _ = doctor("--explain")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [*all_rules()]
    code, out, _ = doctor("--explain", "few-values")
    assert (code, "FEWEST = 9" in out) == (0, True)
    assert doctor("--explain", "nothing")[0] == 2
