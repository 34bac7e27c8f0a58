from dataclasses import dataclass
from typing import Literal

import pytest

from bnlib.experiments import gradient_growth
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


def test_what_is_changed_is_text_that_is_read_back():
    config = Config(rates=(0.5, None), depth=3)
    assert changed(config) == {"rates": "0.5,None", "depth": "3"}
    assert parse_setting(Config, f"rates={write_value(config.rates)}") == ("rates", config.rates)


def test_names_with_commas_are_read():
    text = "cases=sigmoid,ReLU, half of He,residual, He"
    expected = "sigmoid", "ReLU, half of He", "residual, He"
    assert parse_setting(gradient_growth.Config, text) == ("cases", expected)
    with pytest.raises(ValueError, match="cases: expected some of sigmoid, ReLU, half of He, "):
        parse_setting(gradient_growth.Config, "cases=ReLU")


def test_cases_that_can_be_set_are_those_that_there_are():
    (key,) = (key for key in describe(gradient_growth.Config) if key.name == "cases")
    assert key.kind == f"some of {', '.join(gradient_growth.CASES)}, with commas between"
