"""The command line: ``python -m bnlib experiments list | run NAME | multiverse NAME``."""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnlib.experiments.records import cache, registry, settings, store
from bnlib.experiments.records.verdict import case_name

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; 130 is what a shell reports for Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process if not given.

    Returns
    -------
    int
        Exit code: 0 done, 1 failed, 2 wrong usage (an unknown name, key or value), 130 Ctrl-C.

    Raises
    ------
    SystemExit
        With code 2 or, after ``--help``, 0.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print(
            "Interrupted. Finished configs are stored; the same command goes on.", file=sys.stderr
        )
        return INTERRUPTED
    except ValueError as error:  # also an experiment's own: its config is not possible
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except (RuntimeError, OSError, ModuleNotFoundError) as error:  # the last: an extra is missing
        print(f"error: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bnlib", description="Batch normalization.")
    groups = parser.add_subparsers(required=True, metavar="experiments")
    group = groups.add_parser("experiments", help="run the experiments of the book")
    commands = group.add_subparsers(required=True, metavar="{list,run,multiverse}")
    shown = commands.add_parser("list", help="show the experiments and the keys of their configs")
    shown.set_defaults(command=_list)
    run = commands.add_parser("run", help="run one, and print its verdict")
    run.set_defaults(command=_run)
    run.add_argument("name", metavar="NAME")
    run.add_argument("--seeds", type=_seeds, metavar="N", help="seeds, at least 2")
    run.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key=value",
        help="change the config; a key given several times is swept over its values",
    )
    run.add_argument("--out", type=Path, metavar="FILE", help="write everything there, as JSON")
    run.add_argument(
        "--jobs", type=_jobs, default=1, metavar="N", help="configs at a time; -1: one a processor"
    )
    run.add_argument("--cache", type=Path, metavar="FOLDER", help="where finished configs are kept")
    over = commands.add_parser("multiverse", help="judge claims over many settings, and store it")
    over.set_defaults(command=_multiverse)
    which = over.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="keys of claims")
    which.add_argument("--all", action="store_true", help="all claims")
    over.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="settings at a time")
    over.add_argument(
        "--folder", type=Path, default=store.FOLDER, metavar="FOLDER", help="of the stores"
    )
    return parser


def _list(options: argparse.Namespace) -> int:
    for experiment in registry.all_experiments().values():
        print(f"{experiment.name}: {experiment.summary}")
        fields = vars(experiment.config()).items()
        print("    " + " ".join(shlex.quote(f"{key}={_text(value)}") for key, value in fields))
    return DONE


def _run(options: argparse.Namespace) -> int:
    experiment = registry.find(options.name)
    configs = _configs(experiment, options.set, options.seeds)
    if options.out and (options.out.is_dir() or not options.out.parent.is_dir()):
        raise ValueError(f"--out: expected a file in a folder that exists, got {options.out}")
    progress = sys.stderr.isatty()
    done = cache.sweep(
        experiment.run, configs, options.jobs, folder=options.cache, progress=progress
    )
    runs = [_report(experiment, *each) for each in zip(configs, done, strict=True)]
    if options.out:
        text = json.dumps({"experiment": experiment.name, "runs": runs}, indent=1, allow_nan=False)
        cache.write_atomically(options.out, text.encode() + b"\n")
    return DONE


def _multiverse(options: argparse.Namespace) -> int:
    keys = None if options.all else options.names
    settings.run(keys, options.folder, options.jobs, sys.stderr.isatty())
    return DONE


def _configs(experiment: registry.Experiment, settings: list[str], seeds: int | None) -> list[Any]:
    """Make a config of each combination of the values that were given."""
    values: dict[str, list[Any]] = {}
    for text in settings:
        key, value = registry.parse_setting(experiment.config, text)
        values.setdefault(key, []).append(value)
    if seeds is not None:
        if "seeds" in values:
            raise ValueError("seeds: expected --seeds or --set seeds=..., got both")
        values["seeds"] = [seeds]
    combinations = itertools.product(*values.values())
    return [experiment.config(**dict(zip(values, each, strict=True))) for each in combinations]


def _report(experiment: registry.Experiment, config: Any, done: cache.Finished) -> dict[str, Any]:
    """Print the verdicts on a result, and return everything about it in the form of JSON."""
    verdicts = experiment.verdicts(done.result)
    default = vars(experiment.config())
    changed = [f"{k}={_text(v)}" for k, v in vars(config).items() if v != default[k]]
    print(" ".join([experiment.name, *changed]))
    for case, verdict in verdicts.items():
        print(f"    {verdict.claim} Source: {verdict.source}.")
        print(f"    {case_name(case)}: {verdict.answer}: effect {verdict.in_numbers()}", end="")
        print(f", margin {verdict.margin:.3g}, {verdict.seeds} seeds")
    arrays = registry.to_json(done.result)
    return {
        "config": arrays.pop("config"),
        "verdicts": registry.to_json(verdicts),
        "seconds": done.seconds,
        "versions": done.versions,
        "result": arrays,
    }


def _text(value: Any) -> str:
    """Write a value in the form in which --set takes it."""
    return ",".join(map(_text, value)) if isinstance(value, tuple) else str(value)


def _seeds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 2, got {text!r}")
    return int(text)


def _jobs(text: str) -> int:
    if text != "-1" and (not text.isdecimal() or int(text) < 1):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, or -1: {text!r}")
    return int(text)
