"""The command line: ``python -m bnlib experiments ...`` and ``python -m bnlib doctor ...``."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnlib._extras import require
from bnlib.experiments.records import cache, keys, multiverse, registry, report, settings, store

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; 130 is what a shell reports for Ctrl-C."""

_PLOT_WIDTH, _LETTER, _ROW = 5.0, 0.07, 0.3  # inches: without names, a letter of them, a row


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process if not given.

    Returns
    -------
    int
        Exit code: 0 done, 1 something failed, 2 wrong usage (an unknown name, key or value, or a
        config that could not be judged; nothing was run), 130 Ctrl-C. Of the doctor: 0 healthy, 1 a
        finding, 2 wrong usage or no rule that could be checked, 3 a model that could not be
        examined.

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
    groups = parser.add_subparsers(required=True, metavar="experiments | doctor")
    _add_doctor(groups.add_parser("doctor", help="find batch-norm faults in a PyTorch model"))
    group = groups.add_parser("experiments", help="run the experiments of the book")
    commands = group.add_subparsers(required=True, metavar="COMMAND")
    shown = commands.add_parser("list", help="show the experiments and the keys of their configs")
    shown.set_defaults(command=_list)
    described = commands.add_parser("describe", help="explain the keys of one")
    described.set_defaults(command=_describe)
    described.add_argument("name", metavar="NAME")
    _add_run(commands.add_parser("run", help="run one, and print its verdicts"))
    _add_multiverse(
        commands.add_parser("multiverse", help="judge claims over many settings, and store it")
    )
    ablation = commands.add_parser("matrix", help="judge claims for each norm, and store it")
    ablation.set_defaults(command=_matrix)
    _add_stores(ablation, store.MATRIX)
    return parser


def _add_doctor(doctor: argparse.ArgumentParser) -> None:
    doctor.set_defaults(command=_doctor)
    doctor.epilog = (
        "Exit code: 0 healthy, 1 a finding, 2 wrong usage, also one that leaves no rule to check, "
        "3 a model that failed."
    )
    doctor.add_argument(
        "target",
        nargs="?",
        metavar="TARGET",
        help="package.module:name of a model, or of what makes one; or a file of weights",
    )
    doctor.add_argument("--weights", metavar="FILE", help="load them into the model of TARGET")
    doctor.add_argument("--batches", metavar="package.module:name", help="a loader, or its maker")
    doctor.add_argument("--format", choices=["text", "json", "sarif"], default="text")
    doctor.add_argument("--select", type=_names, metavar="RULE,...", help="check only these")
    doctor.add_argument("--ignore", type=_names, default=[], metavar="RULE,...")
    doctor.add_argument(
        "--baseline", type=Path, metavar="FILE", help="an earlier --format json; tell what is new"
    )
    doctor.add_argument(
        "--fail-on",
        choices=["note", "warning", "error", "never"],
        default="warning",
        help="the mildest finding for exit code 1 (default: warning)",
    )
    doctor.add_argument(
        "--explain", nargs="?", const="", metavar="RULE", help="explain one; without RULE, list all"
    )


def _add_run(run: argparse.ArgumentParser) -> None:
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
    run.add_argument("--plot", type=Path, metavar="FILE", help="draw the verdicts there")
    run.add_argument(
        "--jobs", type=_jobs, default=1, metavar="N", help="configs at a time; -1: one a processor"
    )
    run.add_argument("--cache", type=Path, metavar="FOLDER", help="where finished configs are kept")


def _add_multiverse(over: argparse.ArgumentParser) -> None:
    over.set_defaults(command=_multiverse)
    which = over.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="keys of claims")
    which.add_argument("--all", action="store_true", help="all claims")
    _add_stores(over, store.FOLDER)


def _add_stores(command: argparse.ArgumentParser, folder: Path) -> None:
    command.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="settings at a time")
    command.add_argument(
        "--folder", type=Path, default=folder, metavar="FOLDER", help="of the stores"
    )


def _doctor(options: argparse.Namespace) -> int:
    from bnlib.doctor import command  # needs PyTorch

    return command.run(options)


def _list(_: argparse.Namespace) -> int:
    print("\n".join(map(report.listing, registry.all_experiments().values())))
    return DONE


def _describe(options: argparse.Namespace) -> int:
    print(report.description(registry.find(options.name)))
    return DONE


def _run(options: argparse.Namespace) -> int:
    experiment = registry.find(options.name)
    configs = _configs(experiment, options.set, options.seeds)
    for name in ("out", "plot"):
        file = getattr(options, name)
        if file and (file.is_dir() or not file.parent.is_dir()):
            raise ValueError(f"--{name}: expected a file in a folder that exists, got {file}")
    if options.plot:
        _check_format(options.plot)
    outcomes = cache.sweep(
        experiment.run,
        configs,
        options.jobs,
        folder=options.cache,
        progress=sys.stderr.isatty(),
        keep_going=True,
    )
    runs = [_judge(experiment, *each) for each in zip(configs, outcomes, strict=True)]
    for run in runs:
        if run.error:
            print(f"error: {report.name(experiment, run.config)}: {run.error}", file=sys.stderr)
        else:
            print(report.verdicts(experiment, run))
    if len(runs) > 1:
        print(f"\n{report.table(runs)}")
    if options.out:
        entries = [_to_json(*each) for each in zip(runs, outcomes, strict=True)]
        content = {"experiment": experiment.name, "runs": entries}
        text = json.dumps(content, indent=1, allow_nan=False)
        cache.write_atomically(options.out, text.encode() + b"\n")
    if options.plot:
        _plot(runs, options.plot)
    return FAILED if any(run.error for run in runs) else DONE


def _multiverse(options: argparse.Namespace) -> int:
    named = [*map(settings.find, options.names)]
    return _fill([each for each in settings.ALL if options.all or each in named], options)


def _matrix(options: argparse.Namespace) -> int:
    return _fill(settings.MATRIX, options)


def _fill(chosen: Sequence[multiverse.Multiverse], options: argparse.Namespace) -> int:
    """Run the settings that the stores lack, and print what each store holds."""
    folder, progress = options.folder, sys.stderr.isatty()
    if not folder.parent.is_dir():
        raise ValueError(f"--folder: expected a folder in one that exists, got {folder}")
    for each in chosen:
        stores = multiverse.run(each, folder=folder, jobs=options.jobs, progress=progress)
        for key, found in stores.items():
            counts = ", ".join(f"{answer} {n}" for answer, n in found.counts().items())
            print(f"{key}: {found.answer()}\n    {len(found.cells)} settings: {counts}", flush=True)
    return DONE


def _configs(experiment: registry.Experiment, given: list[str], seeds: int | None) -> list[Any]:
    """Make a config of each combination of the values that were given, each once."""
    values: dict[str, list[Any]] = {}
    for text in given:
        key, value = keys.parse_setting(experiment.config, text)
        values.setdefault(key, []).append(value)
    if seeds is not None:
        if "seeds" in values:
            raise ValueError("seeds: expected --seeds or --set seeds=..., got both")
        values["seeds"] = [seeds]
    combinations = itertools.product(*values.values())
    return [
        _config(experiment, dict(zip(values, each, strict=True)))
        for each in dict.fromkeys(combinations)
    ]


def _config(experiment: registry.Experiment, fields: dict[str, Any]) -> Any:
    """Make a config that can be judged; an error names the fields, where there are several."""
    try:
        config = experiment.config(**fields)
        experiment.check_config(config)
    except ValueError as error:
        named = " ".join(f"{k}={keys.write_value(v)}" for k, v in fields.items())
        raise ValueError(f"{experiment.name} {named}: {error}") from None
    return config


def _judge(
    experiment: registry.Experiment, config: Any, outcome: cache.Finished | Exception
) -> report.Run:
    """Judge a result; what goes wrong with it becomes its error."""
    if isinstance(outcome, Exception):
        return report.Run(config, {}, _reason(outcome))
    try:
        verdicts = experiment.verdicts(outcome.result)
    except Exception as error:
        return report.Run(config, {}, _reason(error))
    return report.Run(config, verdicts, "" if verdicts else "there is nothing to judge")


def _reason(error: Exception) -> str:
    expected = isinstance(error, ValueError | RuntimeError | ModuleNotFoundError)
    return str(error) if expected else f"{type(error).__name__}: {error}"


def _to_json(run: report.Run, outcome: cache.Finished | Exception) -> dict[str, Any]:
    """Return everything about a config in the form of JSON."""
    entry = {"config": registry.to_json(run.config)}
    if run.error:
        entry["error"] = run.error
    if isinstance(outcome, Exception):
        return entry
    result = registry.to_json(outcome.result)
    del result["config"]
    return entry | {
        "verdicts": registry.to_json(run.verdicts),
        "seconds": outcome.seconds,
        "versions": outcome.versions,
        "result": result,
    }


def _check_format(file: Path) -> None:
    """Raise ValueError unless matplotlib writes files of this kind."""
    require("matplotlib", extra="book")
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if file.suffix.removeprefix(".").lower() not in known:
        raise ValueError(f"--plot: expected a file that ends in one of {known}, got {file}")


def _plot(runs: Sequence[report.Run], file: Path) -> None:
    """Draw all verdicts, if there are any."""
    from matplotlib.figure import Figure

    from bnlib.plots import forest, use_style

    if rows := report.rows(runs):
        use_style()
        size = _PLOT_WIDTH + _LETTER * max(map(len, rows)), 1 + _ROW * len(rows)
        figure = Figure(figsize=size)
        forest(figure.subplots(), rows)
        figure.savefig(file, facecolor="white")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _seeds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 2, got {text!r}")
    return int(text)


def _jobs(text: str) -> int:
    if text != "-1" and (not text.isdecimal() or int(text) < 1):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, or -1: {text!r}")
    return int(text)
