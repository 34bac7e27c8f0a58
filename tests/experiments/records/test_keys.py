from dataclasses import dataclass
from typing import Literal

import pytest

from bnlib.experiments import gradient_growth
from bnlib.experiments.engine import training
from bnlib.experiments.records.keys import Key, changed, describe, parse_setting, write_value
from bnlib.experiments.records.registry import all_experiments


@dataclass(frozen=True)
class Config:
    """Sizes.

    Attributes
    ----------
    norm : {"batch", "none"}
        As `wu` and :cite:t:`he` have it.
    rates, factors : tuple of float
        Of two
        lines.
    depth : int
        As in `networks.Config`. At most 3.
    bare : int

    Raises
    ------
    ValueError
        Never.
    """

    norm: Literal["batch", "none"] = "batch"
    rates: tuple[float | None, ...] = (0.1, None)
    factors: tuple[Literal["a", "b"], ...] = ("a",)
    depth: int = 2
    bare: int = 0


def test_keys_have_their_meaning_from_the_docstring():
    assert describe(Config) == [
        Key("norm", "batch", "one of batch, none", "As wu and he have it."),
        Key("rates", "0.1,None", "a number or none, and more of it after commas", "Of two lines."),
        Key("factors", "a", "some of a, b, with commas between", "Of two lines."),
        Key("depth", "2", "a whole number", "Hidden layers, and units in each. At most 3."),
        Key("bare", "0", "a whole number", ""),
    ]


@pytest.mark.parametrize("experiment", all_experiments().values(), ids=lambda each: each.name)
def test_every_key_of_every_experiment_has_a_meaning(experiment):
    assert [key.name for key in describe(experiment.config) if not key.meaning] == []


def test_what_is_changed_is_named_and_written():
    config = Config(rates=(0.5, None), depth=3)
    assert changed(config) == {"rates": (0.5, None), "depth": 3}
    assert write_value(config.rates) == "0.5,None"


def test_names_with_commas_are_read():
    text = "cases=sigmoid,ReLU, half of He,residual, He"
    expected = "sigmoid", "ReLU, half of He", "residual, He"
    assert parse_setting(gradient_growth.Config, text) == ("cases", expected)
    with pytest.raises(ValueError, match="cases: expected some of sigmoid, ReLU, half of He, "):
        parse_setting(gradient_growth.Config, "cases=ReLU")


def test_cases_that_can_be_set_are_those_that_there_are():
    (key,) = (key for key in describe(gradient_growth.Config) if key.name == "cases")
    assert key.kind == f"some of {', '.join(gradient_growth.CASES)}, with commas between"


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


def test_settings_fit_the_training_config():
    assert parse_setting(training.Config, "lr=0.1,0.2") == ("lr", (0.1, 0.2))
    assert parse_setting(training.Config, "lr=1") == ("lr", 1.0)


@pytest.mark.parametrize("experiment", all_experiments().values(), ids=lambda each: each.name)
def test_defaults_are_read_back_as_the_command_line_lists_them(experiment):
    for key, value in vars(experiment.config()).items():
        assert parse_setting(experiment.config, f"{key}={write_value(value)}") == (key, value)
