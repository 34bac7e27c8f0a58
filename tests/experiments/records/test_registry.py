import pathlib
import types
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from bnlib.experiments import convolution
from bnlib.experiments.engine import training
from bnlib.experiments.records import registry
from bnlib.experiments.records.keys import write_value
from bnlib.experiments.records.registry import all_experiments, find, parse_setting, to_json


@dataclass(frozen=True)
class Fields:
    number: float = 0.5
    count: int = 3
    switch: bool = False
    word: str = ""
    choice: Literal["batch", "none"] = "batch"
    maybe: float | None = None
    rates: float | tuple[float, ...] = 0.1
    sizes: tuple[int, ...] = ()
    momenta: tuple[float | None, ...] = ()


def test_experiments_are_the_modules_of_their_folder():
    files = pathlib.Path(convolution.__file__).parent.glob("[!_]*.py")
    assert {*all_experiments()} == {file.stem for file in files}
    assert len(all_experiments()) >= 21
    assert find("convolution").run is convolution.run


def module(**changes):
    """Make a complete experiment with some of its parts changed, or left out where None."""

    def run(config, *, progress=False):
        return None

    parts = {"Config": Fields, "run": run, "Result": object, "judge": run} | changes
    made = types.ModuleType("bnlib.experiments.made")
    vars(made).update({name: part for name, part in parts.items() if part is not None})
    return made


def test_a_complete_experiment_is_taken():
    assert registry._experiment(module()).name == "made"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge": None}, "experiment made: expected Config, run, Result, judge; no judge"),
        ({"Result": None, "run": None}, "no run, Result"),
        ({"Config": dict}, "experiment made: expected a dataclass Config, got <class 'dict'>"),
        ({"run": lambda config: None}, r"progress=False\), got run\(config\)"),
        ({"run": lambda config, progress=False: None}, r"got run\(config, progress=False\)"),
    ],
)
def test_an_incomplete_experiment_is_refused(changes, message):
    with pytest.raises(TypeError, match=message):
        registry._experiment(module(**changes))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("number=1e-3", 0.001),
        ("number=2", 2.0),
        ("count=12", 12),
        ("switch=True", True),
        ("switch=false", False),
        ("word=a=b", "a=b"),
        ("choice=none", "none"),
        ("maybe=none", None),
        ("maybe=3", 3.0),
        ("rates=0.5", 0.5),
        ("rates=0.5,1", (0.5, 1.0)),
        ("sizes=2,4", (2, 4)),
        ("sizes=2", (2,)),
        ("sizes=", ()),
        ("momenta=0.1, None", (0.1, None)),
    ],
)
def test_values_are_read_in_the_type_of_the_field(text, value):
    key, parsed = parse_setting(Fields, text)
    assert key == text.partition("=")[0]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number", r"'number': expected key=value"),
        ("numbers=1", r"unknown key 'numbers' \(did you mean number\?\); there are: number, count"),
        ("number=x", "number: expected a number, got 'x'"),
        ("count=1.5", "count: expected a whole number, got '1.5'"),
        ("switch=1", "switch: expected true or false, got '1'"),
        ("choice=layer", "choice: expected one of batch, none, got 'layer'"),
        ("maybe=x", "maybe: expected a number or none, got 'x'"),
        ("sizes=1,x", "sizes: expected a whole number, and more of it after commas, got '1,x'"),
    ],
)
def test_wrong_settings_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_setting(Fields, text)


def test_an_unknown_experiment_is_named():
    with pytest.raises(ValueError, match=r"unknown experiment 'inferense' \(did you mean infer"):
        find("inferense")


def test_settings_fit_the_training_config():
    assert parse_setting(training.Config, "lr=0.1,0.2") == ("lr", (0.1, 0.2))
    assert parse_setting(training.Config, "lr=1") == ("lr", 1.0)


def test_json_of_what_json_does_not_know():
    value = {("a", 1): np.float64(np.inf), None: (np.int64(2), np.array([np.nan, 1.0]))}
    assert to_json(value) == {"a/1": None, "none": [2, [None, 1.0]]}
    with pytest.raises(TypeError, match="value: expected numbers"):
        to_json(registry)


@pytest.mark.parametrize("experiment", all_experiments().values(), ids=lambda each: each.name)
def test_defaults_are_read_back_as_the_command_line_lists_them(experiment):
    for key, value in vars(experiment.config()).items():
        assert parse_setting(experiment.config, f"{key}={write_value(value)}") == (key, value)
