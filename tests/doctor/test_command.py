"""``python -m bnlib doctor``: what it loads, prints and returns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bnlib
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

def talking():
    print("loading")
    return keras()

built = keras()
plain = nn.Linear(4, 2)
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
    monkeypatch.setenv("COLUMNS", "80")
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
    assert 'warning: large-momentum at "1"' in out


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
    assert (code, "nothing new; 1 known finding left out" in out) == (0, True)
    code, out, _ = doctor(
        "some_models:keras", "--batches", "some_models:loader", "--baseline", "known.json"
    )
    assert (code, "few-values" in out, "large-momentum" in out) == (1, True, False)


def test_sarif(doctor):
    code, out, _ = doctor("some_models:keras", "--format", "sarif")
    [run] = json.loads(out)["runs"]
    assert code == 1
    assert [each["ruleId"] for each in run["results"]] == ["large-momentum"]


def test_what_the_model_prints_is_not_in_the_report(doctor):
    code, out, error = doctor("some_models:talking", "--format", "json")
    assert (code, error) == (1, "loading\n")
    assert json.loads(out)["findings"]


def located(doctor, target):
    _, out, _ = doctor(target, "--format", "sarif")
    [result] = json.loads(out)["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    return place["artifactLocation"]["uri"], place["region"]["startLine"]


def test_sarif_says_which_file_and_line(doctor, tmp_path, weights, monkeypatch):
    lines = MODULE.splitlines()
    for name, line in (("keras", "def keras():"), ("Net", "class Net(nn.Sequential):")):
        assert located(doctor, f"some_models:{name}") == ("some_models.py", lines.index(line) + 1)
    assert located(doctor, "some_models:built") == ("some_models.py", 1)
    torch.save(weights, tmp_path / "my weights.pt")
    assert located(doctor, "my weights.pt") == ("my%20weights.pt", 1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert located(doctor, "some_models:Net")[0] == (tmp_path / "some_models.py").as_uri()


@pytest.fixture
def weights():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    model[1].running_var[2] = -1.0
    return model.state_dict()


def test_files_of_weights(doctor, tmp_path, weights):
    torch.save(weights, tmp_path / "plain.pt")
    torch.save({"epoch": 3, "model": weights}, tmp_path / "nested.pth")
    save_file(weights, tmp_path / "weights.safetensors")
    torch.save({"state_dict": weights, "best": torch.tensor(0.3)}, tmp_path / "lightning.ckpt")
    torch.save(weights, tmp_path / "none")
    for name in ("plain.pt", "nested.pth", "weights.safetensors", "lightning.ckpt", "none"):
        code, out, _ = doctor(tmp_path / name)
        assert code == 1
        assert 'error: negative-variance at "1"' in out


def test_weights_are_loaded_into_the_model(doctor, tmp_path):
    model = nn.Sequential(
        nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    )
    model[1].running_var[2] = -1.0
    torch.save({"model": model.state_dict()}, tmp_path / "weights.ckpt")
    code, out, _ = doctor("some_models:keras", "--weights", "weights.ckpt")
    assert code == 1
    assert 'error: negative-variance at "1"' in out
    assert 'warning: large-momentum at "1"' in out


def test_weights_that_do_not_fit(doctor, tmp_path, weights):
    torch.save(weights | {"other": torch.ones(1)}, tmp_path / "other.pt")
    code, _, error = doctor("some_models:keras", "--weights", "other.pt")
    assert code == 2
    assert 'Missing key(s) in state_dict: "3.weight"' in error
    assert 'Unexpected key(s) in state_dict: "other", "0.bias"' in error
    for target, file, words in (
        ("some_models:keras", "absent", "--weights: there is no file absent"),
        ("other.pt", "other.pt", "--weights: expected package.module:name as TARGET, got a file"),
    ):
        code, _, error = doctor(target, "--weights", file)
        assert (code, words in error) == (2, True)


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, torch.jit.ScriptModule):
        content.save(path)
    else:
        torch.save(content, path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda w: nn.Linear(2, 2), "holds a torch.nn.modules.linear.Linear, which is not read"),
        (lambda w: {"model": w, "best": np.float64(0.3)}, "multiarray.scalar, which is not read"),
        (lambda w: b"hello there", "is no file of weights, or a damaged one"),
        (lambda w: b"", "is no file of weights, or a damaged one"),
        (lambda w: torch.jit.script(nn.BatchNorm1d(2)), "is a TorchScript archive"),
        (lambda w: {"model": w, "ema": w}, "'model', 'ema'; save the one to examine, such as"),
        (lambda w: {"model": w, "ema": w}, "torch.save(checkpoint['model'], FILE)"),
        (lambda w: {"epoch": 3}, "holds no state dict but a dict with the keys 'epoch'; save"),
        (lambda w: {1: torch.ones(2)}, "holds no state dict but a dict with the keys 1; save"),
        (lambda w: [1, 2], "holds no state dict but a list; save"),
    ],
)
@pytest.mark.parametrize("options", [["odd.pt"], ["some_models:keras", "--weights", "odd.pt"]])
def test_a_file_without_weights_is_named_in_one_line(
    doctor, tmp_path, weights, make, words, options
):
    write(tmp_path / "odd.pt", make(weights))
    code, out, error = doctor(*options)
    assert (code, out) == (2, "")
    assert words in error
    assert error.startswith("error: --weights: " if "--weights" in options else "error: TARGET: ")
    assert error.count("\n") == 1
    assert "\x1b" not in error


def test_a_file_that_is_no_safetensors(doctor, tmp_path):
    (tmp_path / "odd.safetensors").write_text("hello there")
    code, _, error = doctor("odd.safetensors")
    assert (code, "is no file of weights" in error) == (2, True)


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    root = str(Path(bnlib.__file__).parents[1])
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "bnlib", "doctor", "--explain"],
        stdout=written,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": root, "PYTHONUNBUFFERED": ""},  # it flushes at the end, too
        check=False,
    )
    os.close(written)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected package.module:name or a file"),
        (["some_models"], "expected package.module:name"),
        (["some_models:nothing"], "some_models has no 'nothing'"),
        (["no_models_here:make"], "no module 'no_models_here'"),
        (["some_models:number"], "expected a torch.nn.Module, got int"),
        (["absent.pt"], "no file absent.pt"),
        (["absent.ckpt"], "no file absent.ckpt"),
        (["some_models:keras", "--batches", "some_models:number"], "batches"),
        (["some_models:keras", "--baseline", "absent.json"], "--baseline"),
        (["some_models:keras", "--baseline", "some_models.py"], "no report of --format json"),
    ],
)
def test_wrong_usage_is_exit_code_2(doctor, arguments, words):
    code, out, error = doctor(*arguments)
    assert (code, out) == (2, "")
    assert words in error


@pytest.mark.parametrize("form", ["text", "json", "sarif"])
def test_nothing_checked_is_a_wrong_call(doctor, form):
    chosen = ["some_models:keras", "--select", "idle-bias,few-values", "--format", form]
    code, out, error = doctor(*chosen)
    assert (code, "no rule could be checked" in error) == (2, True)
    assert "batches=..." in out  # the report says why
    assert out.startswith("1 norm, nothing was checked") == (form == "text")
    assert doctor(*chosen, "--batches", "some_models:batches")[0] == 0


def test_a_model_or_file_without_norms_is_healthy(doctor, tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    for target in ("some_models:plain", "linear.pt"):
        code, out, _ = doctor(target)
        assert (code, out.startswith("no batch norm found in it, ")) == (0, True)


def test_a_model_that_fails_is_exit_code_3(doctor):
    code, _, error = doctor("some_models:broken")
    assert (code, "no such weights" in error) == (3, True)
    code, _, error = doctor("some_models:healthy", "--batches", "some_models:wide")
    assert (code, "showed the model a batch" in error) == (3, True)


def test_rules_are_listed_and_explained(doctor):
    code, out, _ = doctor("--explain")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line[0] != " "] == [*all_rules()]
    assert max(map(len, out.splitlines())) in range(70, 81)
    code, out, _ = doctor("--explain", "few-values")
    assert (code, "FEWEST = 9" in out) == (0, True)
    assert max(map(len, out.splitlines())) in range(70, 81)
    assert doctor("--explain", "nothing")[0] == 2
