import pathlib
import types

import numpy as np
import pytest

from bnlib.experiments import convolution
from bnlib.experiments.records import registry
from bnlib.experiments.records.registry import all_experiments, find, to_json


def test_experiments_are_the_modules_of_their_folder():
    files = pathlib.Path(convolution.__file__).parent.glob("[!_]*.py")
    assert {*all_experiments()} == {file.stem for file in files}
    assert len(all_experiments()) >= 21
    assert find("convolution").run is convolution.run


def module(**changes):
    """Make a complete experiment with some of its parts changed, or left out where None."""

    def run(config, *, progress=False):
        return None

    parts = {"Config": convolution.Config, "run": run, "Result": object, "judge": run} | changes
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


def test_an_unknown_experiment_is_named():
    with pytest.raises(ValueError, match=r"unknown experiment 'inferense' \(did you mean infer"):
        find("inferense")


def test_json_of_what_json_does_not_know():
    value = {("a", 1): np.float64(np.inf), None: (np.int64(2), np.array([np.nan, 1.0]))}
    assert to_json(value) == {"a/1": None, "none": [2, [None, 1.0]]}
    with pytest.raises(TypeError, match="value: expected numbers"):
        to_json(registry)
