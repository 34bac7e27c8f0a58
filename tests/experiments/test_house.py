"""Where the modules of experiments are: their public names, and who may import whom."""

import ast
import importlib
import pathlib

import pytest

from bnlib import experiments

FOLDER = pathlib.Path(experiments.__file__).parent
PUBLIC = {
    "cache": "Finished default_folder key library_source sweep versions write_atomically",
    "ledger": "glue_verdict",
    "networks": "ACTIVATIONS DATASETS INITS NORMS ORDER WEIGHTS Config Data build build_optimizer "
    "generators initializer load",
    "registry": "Experiment all_experiments find to_json",
    "training": "Config Recorder Result State predict record_test_accuracy "
    "record_validation_accuracy train",
    "verdict": "CONFIDENCE Answer Between Verdict averaged case_name check_two_arms overall "
    "paired_verdict",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_short_names_stay(module):
    short = importlib.import_module(f"bnlib.experiments.{module}")
    assert getattr(experiments, module) is short
    assert [name for name in PUBLIC[module].split() if not hasattr(short, name)] == []


def modules(folder):
    """Yield each module of a folder with what it imports from `bnlib.experiments`."""
    for path in sorted((FOLDER / folder).glob("*.py")):
        imported = set()
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            if isinstance(node, ast.ImportFrom):
                imported |= {f"{node.module}.{alias.name}." for alias in node.names}
            elif isinstance(node, ast.Import):
                imported |= {f"{alias.name}." for alias in node.names}
        prefix = "bnlib.experiments."
        yield path.name, {each.removeprefix(prefix) for each in imported if prefix in each}


def test_engine_knows_no_experiment_and_no_record():
    for name, imported in modules("engine"):
        assert all(each.startswith("engine.") for each in imported), name


def test_records_know_experiments_by_name_only():
    for name, imported in modules("records"):
        assert all(each.startswith("records.") for each in imported), name


def test_experiments_know_the_engine_the_verdict_and_each_other():
    for name, imported in modules("."):
        if name != "__init__.py":
            records = {each for each in imported if each.startswith("records.")}
            assert all(each.startswith("records.verdict.") for each in records), name
