"""An experiment that notes its calls and can be made to wait; as a script, its command line."""

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from bnlib import cli
from bnlib.experiments.engine import training
from bnlib.experiments.records import registry
from bnlib.experiments.records.verdict import paired_verdict


@dataclass(frozen=True)
class Config:
    """One run; `folder` takes the notes, and holds it up where it has a file `hold-<index>`."""

    folder: str = "."
    index: int = 0
    seeds: int = 2


@dataclass(frozen=True)
class Result:
    config: Config
    loss: object


def run(config: Config) -> Result:
    folder = Path(config.folder)
    with (folder / f"calls-{config.index}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if (folder / f"hold-{config.index}").exists():
        while not list((folder / "cache").glob("*.pickle")):  # until another one is stored
            threading.Event().wait(0.01)
        print("waiting", flush=True)
        threading.Event().wait(60)
    settings = training.Config(
        depth=1, width=4, norm="batch", steps=3, seeds=config.seeds, first_seed=config.index
    )
    return Result(config, training.train(settings).loss)


def judge(result: Result):
    return paired_verdict("It learns.", "", result.loss[:, 0], result.loss[:, -1], 0.0)


def processes(folder: Path) -> list[list[int]]:
    """List the processes that called each of the indices 0 to 3."""
    files = [folder / f"calls-{index}" for index in range(4)]
    return [[*map(int, file.read_text().split())] if file.exists() else [] for file in files]


def calls(folder: Path) -> list[int]:
    """Count the calls of the indices 0 to 3."""
    return [len(each) for each in processes(folder)]


EXPERIMENT = registry.Experiment("slow", "It waits.", Config, run, judge)


def main() -> int:
    registry.find = lambda name: EXPERIMENT
    return cli.main()


if __name__ == "__main__":
    import slow_experiment  # so that its functions have the name that workers import them by

    sys.exit(slow_experiment.main())
