import dataclasses
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import slow_experiment
from slow_experiment import Config, run

from bnlib.experiments import conditioning, inference
from bnlib.experiments.engine import training
from bnlib.experiments.records import cache
from bnlib.experiments.records.cache import key, sweep, write_atomically

HELPERS = Path(slow_experiment.__file__).parent


def configs(folder):
    return [Config(str(folder), index) for index in range(4)]


def assert_same(finished, folder):
    """The results are those of calls without any cache."""
    for config, entry in zip(configs(folder), finished, strict=True):
        np.testing.assert_array_equal(entry.result.loss, run(config).loss)
        assert entry.result.config == config


def start(folder, jobs):
    """Start a sweep of which config 2 waits, in a process group of its own."""
    (folder / "hold-2").touch()
    command = [sys.executable, HELPERS / "slow_experiment.py", "experiments", "run", "slow"]
    command += ["--cache", folder / "cache", "--jobs", str(jobs), "--set", f"folder={folder}"]
    command += [f"index={index}" for index in range(4)]
    paths = os.pathsep.join([str(HELPERS.parents[1]), str(HELPERS)])
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "waiting\n", process.stderr.read()
    (folder / "hold-2").unlink()
    return process


def test_a_killed_sweep_resumes_and_ends_as_an_undisturbed_one(tmp_path):
    with start(tmp_path, jobs=1) as process:
        process.kill()
    assert slow_experiment.calls(tmp_path) == [1, 1, 1, 0]
    finished = sweep(run, configs(tmp_path), folder=tmp_path / "cache")
    assert slow_experiment.calls(tmp_path) == [1, 1, 2, 1]
    assert_same(finished, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C in another way")
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_keeps_what_was_finished(tmp_path, jobs):
    with start(tmp_path, jobs) as process:
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith("Interrupted.")
    assert "Traceback" not in error
    stored = len(list((tmp_path / "cache").iterdir()))
    assert 1 <= stored <= 3
    before = sum(slow_experiment.calls(tmp_path))
    finished = sweep(run, configs(tmp_path), folder=tmp_path / "cache")
    assert sum(slow_experiment.calls(tmp_path)) == before + 4 - stored
    assert_same(finished, tmp_path)


def test_a_failing_config_does_not_lose_the_finished_ones(tmp_path):
    failing = [*configs(tmp_path)[:2], Config(str(tmp_path), 2, seeds=0)]
    with pytest.raises(ValueError, match="seeds: expected at least 1, got 0"):
        sweep(run, failing, folder=tmp_path / "cache")
    sweep(run, failing[:2], folder=tmp_path / "cache")
    assert slow_experiment.calls(tmp_path) == [1, 1, 1, 0]


def test_results_come_in_the_order_of_the_configs_and_equal_ones_run_once(tmp_path):
    one, two, *_ = configs(tmp_path)
    finished = sweep(run, [two, one, two], folder=tmp_path / "cache")
    assert [entry.result.config.index for entry in finished] == [1, 0, 1]
    assert slow_experiment.calls(tmp_path) == [1, 1, 0, 0]
    assert all(entry.seconds > 0 and entry.versions == cache.versions() for entry in finished)


def test_loky_gives_what_one_process_gives(tmp_path):
    finished = sweep(run, configs(tmp_path), jobs=2, folder=tmp_path / "cache")
    assert [os.getpid()] not in slow_experiment.processes(tmp_path)
    assert_same(finished, tmp_path)


# Dask's own: a worker that is closed drops its connections.
@pytest.mark.filterwarnings("default:::distributed", "ignore::ResourceWarning")
def test_dask_workers_give_what_one_process_gives(tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=tmp_path
        ) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        workers = {worker.pid for worker in cluster.workers.values()}
        finished = sweep(run, configs(tmp_path), jobs=-1, folder=tmp_path / "cache")
    assert len(workers) == 2
    ran = slow_experiment.processes(tmp_path)
    assert [len(each) for each in ran] == [1, 1, 1, 1]
    assert {process for each in ran for process in each} <= workers
    assert_same(finished, tmp_path)


def test_a_damaged_file_is_computed_again(tmp_path):
    (config,) = configs(tmp_path)[:1]
    sweep(run, [config], folder=tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    for damage in (path.read_bytes()[:-20], b"", b"\x80\x04N."):  # the last one is a None
        path.write_bytes(damage)
        sweep(run, [config], folder=tmp_path / "cache")
    assert slow_experiment.calls(tmp_path) == [4, 0, 0, 0]


def test_key_depends_on_function_config_source_and_versions(monkeypatch):
    config = inference.Config()
    keys = [
        key(inference.run, config),
        key(inference.run, dataclasses.replace(config, lr=0.2)),
        key(conditioning.run, config),
        key(conditioning.run, conditioning.Config()),
    ]
    for name in ("library_source", "versions", "_own_source"):
        with monkeypatch.context() as patch:
            patch.setattr(cache, name, lambda *_: "another one")
            keys.append(key(inference.run, config))
    assert len(set(keys)) == len(keys)
    assert key(inference.run, inference.Config(seeds=np.int64(16))) == keys[0]


def test_an_edit_in_the_library_changes_its_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.bnlib, "__file__", str(tmp_path / "__init__.py"))
    hashes = []
    for content in ("a = 1", "a = 2", "a = 1"):
        (tmp_path / "module.py").write_text(content)
        cache.library_source.cache_clear()
        hashes.append(cache.library_source())
    (tmp_path / "module.py").rename(tmp_path / "other.py")
    cache.library_source.cache_clear()
    hashes.append(cache.library_source())
    cache.library_source.cache_clear()
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3


def test_the_source_of_a_function_outside_the_library_counts():
    assert cache._own_source(run) == Path(slow_experiment.__file__).read_text("utf8")
    assert cache._own_source(training.train) == ""


@pytest.mark.parametrize("bad", [lambda config: config, functools.partial(run)])
def test_functions_without_a_name_of_their_own_are_refused(bad):
    with pytest.raises(ValueError, match="run: expected a function of a module"):
        key(bad, Config())


def test_configs_that_cannot_be_told_apart_are_refused():
    with pytest.raises(TypeError, match="config: expected a dataclass instance"):
        key(run, {"seeds": 3})
    with pytest.raises(TypeError, match="config: expected numbers, strings and tuples"):
        key(run, Config(index=np.arange(3)))


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert [file.name for file in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_default_folder_is_that_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "batchnorm-book"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.default_folder() == Path.home() / ".cache" / "batchnorm-book"


def test_progress_bar_counts_the_configs(tmp_path, capsys):
    sweep(run, configs(tmp_path)[:1], folder=tmp_path / "cache")
    sweep(run, configs(tmp_path), folder=tmp_path / "cache", progress=True)
    assert "4/4" in capsys.readouterr().err
