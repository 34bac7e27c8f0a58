"""`make cpus` counts what ran, and calls nothing passed that died or did not run."""

import sys
from pathlib import Path

import pytest

TESTS = """
import os, signal, pytest
def test_passes(): assert os.environ["BNLIB_TEST_SEED"] == "7"
def test_fails(): assert os.environ["NUMBA_CPU_NAME"] != "generic"
@pytest.mark.skip
def test_is_skipped(): pass
"""
DIES = "import os, signal\ndef test_dies(): os.kill(os.getpid(), signal.SIGILL)\n"


@pytest.fixture
def cpus(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tools")
    import cpus

    monkeypatch.setattr(cpus, "LOGS", tmp_path)
    monkeypatch.setattr(cpus, "lacks", lambda variables: "")
    return cpus


def run(cpus, folder, text):
    file = folder / "test_these.py"
    file.write_text(text)
    return cpus.run("old", "unit", 7, (str(file),), 1)


def test_counts(cpus, tmp_path):
    assert run(cpus, tmp_path, TESTS) == ("old", "unit", 7, 1, 1, 1, "")


def test_a_run_that_dies_has_not_passed(cpus, tmp_path, monkeypatch):
    result = run(cpus, tmp_path, DIES)
    assert result.passed == 0
    assert "SIGILL" in result.remark
    monkeypatch.setattr(cpus, "run", lambda *_: result)
    monkeypatch.setattr(sys, "argv", ["cpus.py", "--rows", "old", "--unit"])
    assert cpus.main() == 1


def test_row_without_its_instructions_is_named(cpus, monkeypatch, capsys):
    monkeypatch.setattr(cpus, "lacks", lambda v: "torch" * (v.get("MKL_CBWR") == "COMPATIBLE"))
    monkeypatch.setattr(cpus, "run", lambda row, part, seed, *_: cpus.Result(row, part, seed, 5))
    monkeypatch.setattr(sys, "argv", ["cpus.py", "--rows", "here,old", "--unit"])
    assert cpus.main() == 0
    here, old = capsys.readouterr().out.splitlines()[-2:]
    assert here.split()[:4] == ["here", "unit", "0", "5"]
    assert "CANNOT RUN HERE: torch" in old


def test_interrupted_it_prints_what_is_finished(cpus, monkeypatch, capsys):
    def stop_at_second(row, part, seed, *_):
        if row == "old":
            raise KeyboardInterrupt
        return cpus.Result(row, part, seed, 5)

    monkeypatch.setattr(cpus, "run", stop_at_second)
    monkeypatch.setattr(sys, "argv", ["cpus.py", "--unit"])
    assert cpus.main() == 1
    assert capsys.readouterr().out.splitlines()[-1].split()[:4] == ["here", "unit", "0", "5"]


def test_own_value_of_the_machine_is_kept(cpus, monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert cpus.environment("old", 1)["OPENBLAS_CORETYPE"] == "Prescott"
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    assert cpus.environment("old", 1)["OPENBLAS_CORETYPE"] == "Nehalem"
    assert cpus.environment("threads", 4)["OMP_NUM_THREADS"] == "2"
