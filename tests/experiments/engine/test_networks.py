from dataclasses import dataclass

import numpy as np
import pytest

from bnlib.experiments.engine import networks
from bnlib.layers import ReLU, Tanh


@dataclass(frozen=True)
class Experiment:
    depth: int = 2
    width: int = 5
    seeds: int = 3
    rates: tuple[float, ...] = (0.1, 0.2)


def test_a_config_takes_the_fields_that_an_experiment_has_too():
    config = networks.Config.of(Experiment(), norm="batch", lr=Experiment.rates, width=7)
    assert config == networks.Config(depth=2, width=7, seeds=3, norm="batch", lr=(0.1, 0.2))


def test_a_config_refuses_what_is_no_field():
    with pytest.raises(TypeError, match="rates"):
        networks.Config.of(Experiment(), rates=(0.1,))


def test_generators_of_the_replicas_repeat_those_of_the_seeds():
    config = networks.Config.of(Experiment(), lr=Experiment.rates)
    draws = [rng.random() for rng in networks.replica_generators(config, networks.TEST)]
    assert draws == 2 * [rng.random() for rng in networks.generators(config, networks.TEST)]
    assert len({*draws}) == 3


def test_batch_norm_and_what_differs_from_it_in_one_part_have_the_same_parameters():
    for norm in networks.NO_BIAS:
        names = networks.build(networks.Config.of(Experiment(), norm=norm)).parameters
        assert [*names] == [
            *networks.build(networks.Config.of(Experiment(), norm="batch")).parameters
        ]
    assert "0.bias" in networks.build(networks.Config.of(Experiment(), norm="layer")).parameters


def test_other_layers_behind_each_linear_one_leave_the_weights_as_they_are():
    config = networks.Config.of(Experiment(), norm="batch")
    usual = networks.build(config)
    other = networks.build(config, lambda i: [Tanh()] if i else [ReLU(), Tanh()], bias=True)
    assert [type(layer).__name__ for layer in other] == [
        "Linear", "ReLU", "Tanh", "Linear", "Tanh", "Linear",
    ]  # fmt: skip
    for one, two in (("0", "0"), ("3", "3"), ("6", "5")):
        np.testing.assert_array_equal(
            usual.parameters[f"{one}.weight"], other.parameters[f"{two}.weight"]
        )
    assert "0.bias" in other.parameters
    assert "0.bias" not in usual.parameters
