"""What every experiment must do: repeat its numbers, and judge by the sign of the effect.

The judge does not find an effect between the control and the control from other seeds, cannot
tell where both arms are the same array, and answers the opposite where the arms are swapped. A new
experiment goes into `CASES`.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from bnlib.experiments import gradient_growth, placement
from bnlib.experiments.records.registry import all_experiments, to_json
from bnlib.experiments.records.verdict import Verdict

OPPOSITE = {"supported": "refuted", "refuted": "supported"}


class Case(NamedTuple):
    """How one experiment is made small, and its arms equal or swapped.

    `control` and `swapped` change the config (a dict of fields) or, where no field chooses the
    arms, the result (a function). `settings` make a run that takes a second, and whose effects
    differ from 0, but for those with the keys `idle`. `absolute` judges look at the treatment
    alone: nothing is exchanged.
    """

    settings: dict[str, Any]
    control: dict[str, Any] | Callable[[Any], Any]  # both arms are the control
    swapped: dict[str, Any] | Callable[[Any], Any]  # treatment and control are exchanged
    idle: tuple[str, ...] = ()
    absolute: bool = False


def lit_arms(batch, none):
    """Give the arms "batch" and "none" of the convolutional networks the accuracies of others."""
    source = {"batch": batch, "none": none}

    def change(result):
        test = {(arm, *case): result.accuracy(source[arm], *case) for arm, *case in result.test}
        return replace(result, test=test)

    return change


def dropped(result, source):
    """Give each place of dropout the curves of another."""
    curves = {(norm, place): result.curves[norm, source[place]] for norm, place in result.curves}
    return replace(result, curves=curves)


TINY = {"dataset": "digits", "n_train": 192, "width": 8, "seeds": 3, "rates": (0.05,)}
AGAIN = {"norms": ("none", "none again")}
SWAPPED = {"norms": ("batch", "none")}


CASES = {
    "batch_size": Case(
        {**TINY, "sizes": (8, 32), "steps": 32, "epochs": 4}, control=AGAIN, swapped=SWAPPED
    ),
    "conditioning": Case(
        {"ratios": (1.0, 5.0), "seeds": 4, "tolerance": 1e-4},
        control={"ratios": (1.0,)},  # equal units: standardization changes next to nothing
        swapped=lambda result: replace(result, steps=result.steps[::-1]),
    ),
    "conversion": Case(
        {"seeds": 4, "steps": 60, "depth": 4, "width": 6, "lr": 0.3},
        control=lambda result: replace(
            result, accuracy=dict.fromkeys(result.accuracy, result.accuracy["right"])
        ),
        swapped=lambda result: replace(
            result, accuracy={name: -each for name, each in result.accuracy.items()}
        ),
        idle=("eps",),
    ),
    "convolution": Case(
        {
            "arms": ("none", "batch"),
            "rates": (0.1,),
            "seeds": 2,
            "steps": 12,
            "batch_size": 16,
            "channels": 2,
            "n_valid": 32,
            "n_test": 64,
        },
        control=lit_arms(batch="none", none="none"),
        swapped=lit_arms(batch="none", none="batch"),
    ),
    "covariate_shift": Case(
        {
            "depths": (4, 4),
            "width": 12,
            "rates": (0.001, 0.01),
            "steps": 4,
            "every": 2,
            "seeds": 4,
            "batch_size": 32,
        },
        control=AGAIN,
        swapped=SWAPPED,
    ),
    "detached_statistics": Case(
        {"seeds": 4, "steps": 200},
        control={"treatment": "correct"},
        swapped=lambda result: replace(
            result,
            bias={"correct": result.bias["detached"], "detached": result.bias["correct"]},
            loss={"correct": result.loss["detached"], "detached": result.loss["correct"]},
        ),
    ),
    "divergence": Case(
        {"rates": (0.03, 10.0), "depth": 4, "width": 16, "steps": 20, "seeds": 6},
        control=lambda result: replace(
            result, activation=np.repeat(result.activation[..., :1], 4, axis=-1)
        ),
        swapped=lambda result: replace(result, activation=result.activation[..., ::-1]),
    ),
    "dropout": Case(
        {
            **TINY,
            "batch_size": 16,
            "steps": 60,
            "every": 30,
            "tuning_seeds": 1,
            "probabilities": (0.1, 0.5),
            "places": ("every",),
        },
        control=lambda result: dropped(result, {"no": "no", "every": "no"}),
        swapped=lambda result: dropped(result, {"no": "every", "every": "no"}),
    ),
    "effective_rates": Case(
        {"rates": (0.1, 10.0), "depth": 2, "width": 8, "steps": 30, "seeds": 3},
        control={"norm": "none", "rates": (0.001, 0.01)},
        swapped=lambda result: replace(result, squared_norm=result.squared_norm[:, :, ::-1]),
    ),
    "fine_tuning": Case(
        {
            "others": (),
            "trained": ("head", "all"),
            "contrasts": (0.5,),
            "pretraining": 40,
            "rates": (0.1,),
            "head_rates": (0.3,),
            "budgets": (10, 30),
            "n_train": 48,
            "width": 12,
            "seeds": 4,
        },
        control={"arms": ("moving", "moving again")},
        swapped={"arms": ("frozen", "moving")},
    ),
    "gradient_accumulation": Case(
        {"width": 8, "seeds": 3, "parts": (1, 4)}, control=AGAIN, swapped=SWAPPED
    ),
    "gradient_growth": Case(
        {"depth": 24, "width": 40, "m": 12, "seeds": 4},
        control=AGAIN,
        swapped=SWAPPED,
        absolute=True,
    ),
    "inference": Case(
        {"seeds": 4, "steps": 24, "checkpoints": (24,), "test_sizes": (4, 16), "n_test": 96},
        control={"norm": "none"},
        swapped=lambda result: replace(
            result,
            changed={
                "train mode": result.changed["eval mode"],
                "eval mode": result.changed["train mode"],
            },
        ),
    ),
    "learning_rates": Case(
        {
            "scales": (0.5, 1.0),
            "rates": (0.1, 0.32, 1.0),
            "depth": 4,
            "width": 16,
            "budgets": (120,),
            "seeds": 4,
        },
        control=AGAIN,
        swapped=SWAPPED,
    ),
    "orthogonal_weights": Case(
        {"depth": 100, "width": 12, "seeds": 4},
        control={"weights": ("normal", "normal again")},
        swapped={"weights": ("orthogonal", "normal")},
        absolute=True,
    ),
    "halves": Case(
        {
            "others": (),
            "activations": ("tanh",),
            "rates": (0.1, 0.3),
            "budgets": (20, 40),
            "target": 0.6,
            "depth": 2,
            "width": 12,
            "seeds": 4,
        },
        control=dict.fromkeys(("centring", "scaling"), ("batch", "batch again")),
        swapped={"centring": ("batch", "scale"), "scaling": ("batch", "center")},
    ),
    "placement": Case(
        {
            "others": (),
            "activations": ("tanh",),
            "depths": (2,),
            "rates": (0.1, 0.3),
            "budgets": (20, 40),
            "width": 12,
            "seeds": 4,
        },
        control={"arms": ("after", "after again")},
        swapped={"arms": ("before", "after")},
    ),
    "rank_collapse": Case(
        {"layers": (1, 20), "seeds": 4},
        control=AGAIN,
        swapped=SWAPPED,
    ),
    "regularization": Case(
        {
            **TINY,
            "batch_size": 16,
            "steps": 60,
            "every": 15,
            "level": 2.2,
            "tuning_seeds": 1,
            "others": (),
            "noise": ("none", "batch"),
        },
        control={**AGAIN, "noise": ("none", "none again")},
        swapped={**SWAPPED, "noise": ("batch", "none")},
    ),
    "reshuffling": Case(
        {
            **TINY,
            "norms": ("batch",),
            "others": (),
            "epochs": (2, 6),
            "batch_size": 8,
            "rates": (0.1, 0.3),
            "seeds": 4,
        },
        control={"orders": ("anew", "anew again")},
        swapped=lambda result: replace(  # a key names the control, so the arms keep their names
            result, curves=dict(zip(result.curves, [*result.curves.values()][::-1], strict=True))
        ),
    ),
    "saturation": Case(
        {
            "activations": ("sigmoid",),
            "scales": (10.0,),
            "rates": (0.1, 1.0),
            "budgets": (30, 60),
            "depth": 3,
            "width": 12,
            "seeds": 4,
        },
        control=AGAIN,
        swapped=SWAPPED,
        absolute=True,
    ),
    "shifted_batch_norm": Case(
        {
            "strengths": (0.0, 2.0),
            "rates": (0.3,),
            "depth": 4,
            "width": 12,
            "budgets": (20,),
            "every": 10,
            "seeds": 4,
        },
        control={**AGAIN, "strengths": (0.0, 0.0)},
        swapped=lambda result: replace(result, loss=-result.loss),  # two treatments, one control
    ),
    "sigmoid_network": Case(
        {"width": 16, "steps": 40, "every": 10, "early": 20, "seeds": 3, "rates": (0.5,)},
        control=AGAIN,
        swapped=SWAPPED,
    ),
    "signal_propagation": Case(
        {"depth": 6, "width": 40, "m": 5, "seeds": 4, "scales": (0.25,)},
        control=AGAIN,
        swapped=SWAPPED,
    ),
    "small_batches": Case(
        {
            **TINY,
            "norms": ("layer", "batch"),
            "sizes": (2, 8),
            "epochs": 2,
            "depth": 1,
            "n_train": 128,
        },
        control={"norms": ("layer", "layer again")},
        swapped={"norms": ("batch", "layer")},
    ),
    "smoothness": Case(
        {
            "rates": (0.01, 0.1),
            "best": (0.1, 0.32),
            "depth": 4,
            "width": 16,
            "steps": 40,
            "every": 10,
            "seeds": 4,
        },
        control={**AGAIN, "best": (0.1, 0.1)},
        swapped={**SWAPPED, "best": (0.32, 0.1)},
    ),
    "trainable_depth": Case(
        {
            "case": "sigmoid",
            "depths": (1, 4),
            "rates": (1.0,),
            "width": 24,
            "budgets": (50, 100),
            "seeds": 4,
        },
        control=AGAIN,
        swapped=SWAPPED,
    ),
    "variance_shift": Case(
        {
            "dataset": "digits",
            "n_train": 192,
            "width": 12,
            "batch_size": 16,
            "steps": 40,
            "places": ("before",),
            "probabilities": (0.5,),
            "seeds": 4,
        },
        control={"probabilities": (0.0,)},  # nothing is dropped
        swapped=lambda result: replace(
            result, losses={key: each[::-1] for key, each in result.losses.items()}
        ),
    ),
}

EXPERIMENTS = all_experiments()


@lru_cache
def result(name):
    return EXPERIMENTS[name].run(EXPERIMENTS[name].config(**CASES[name].settings))


def judged(name, change):
    experiment = EXPERIMENTS[name]
    if callable(change):
        return experiment.verdicts(change(result(name)))
    config = replace(result(name).config, **change)
    return experiment.verdicts(experiment.run(config))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_a_case(name):
    assert name in CASES, (
        f"{__file__}: add to CASES {name!r}: Case(settings of a small config, control=what makes "
        "both arms the control, swapped=what exchanges treatment and control)"
    )


def test_every_case_has_an_experiment():
    assert CASES.keys() <= EXPERIMENTS.keys()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.absolute])
def test_no_effect_is_found_between_the_control_and_the_control(name):
    """From other seeds it could be found, but is not; where it is the same array it could not."""
    verdicts = judged(name, CASES[name].control)
    for key, verdict in verdicts.items():
        assert verdict.answer not in ("supported", "refuted"), key
    if "again" in str(CASES[name].control):
        assert any(v.effect and np.isfinite(v.effect) for v in verdicts.values())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.absolute])
def test_swapped_arms_change_the_sign_and_the_answer(name):
    swapped = judged(name, CASES[name].swapped)
    for key, verdict in EXPERIMENTS[name].verdicts(result(name)).items():
        assert (verdict.effect != 0) == (key not in CASES[name].idle), key
        mirrored = [-swapped[key].effect, -swapped[key].high, -swapped[key].low]
        assert mirrored == pytest.approx([verdict.effect, verdict.low, verdict.high]), key
        assert swapped[key].answer == OPPOSITE.get(verdict.answer, verdict.answer), key


@pytest.mark.parametrize("name", CASES)
def test_the_same_config_gives_the_same_numbers_and_a_progress_bar(name, capsys):
    first = result(name)
    assert to_json(EXPERIMENTS[name].run(first.config, progress=True)) == to_json(first)
    assert "0%|" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rank_collapse", "regularization", "signal_propagation"])
def test_the_parameters_of_batch_norm_without_the_norm_have_no_effect(name):
    """At initialization they change nothing; in training hardly anything."""
    arms = {"norms": ("none", "identity")}
    if name == "regularization":
        arms["noise"] = arms["norms"]
    for key, verdict in judged(name, arms).items():
        assert verdict.answer not in ("supported", "refuted"), key


def test_dropout_is_needed_as_much_with_the_parameters_of_batch_norm_alone():
    verdict = judged("dropout", {"norms": ("none", "identity")})["reduces-need-for-dropout"]
    assert verdict.answer not in ("supported", "refuted")
    with pytest.raises(ValueError, match="norms: expected two of"):
        judged("dropout", {"norms": ("none", "rms")})


def test_gradients_drift_alike_with_the_parameters_of_batch_norm_alone():
    config = replace(result("gradient_growth").config, norms=("none", "identity"))
    for verdict in gradient_growth.judge_difference(gradient_growth.run(config)).values():
        assert verdict.effect == pytest.approx(0)


@pytest.mark.parametrize("rate", [None, 0.1])
def test_the_place_of_the_parameters_of_batch_norm_alone_has_no_effect(rate):
    config = replace(result("placement").config, arms=("identity after", "identity before"))
    found = placement.run(replace(config, seeds=16))
    for key, verdict in placement.compare(found, *found.config.arms, rate).items():
        assert verdict.answer not in ("supported", "refuted"), key


BY_SEED = {
    "conditioning": lambda result: result.condition,
    "conversion": lambda result: result.error["eps"],
    "detached_statistics": lambda result: result.bias["detached"].T,
    "effective_rates": lambda result: result.loss[:, :, -1],
}
"""Name -> numbers of a result whose last axis is that of the seeds, (..., k)."""


@pytest.mark.parametrize("name", BY_SEED)
def test_the_first_seed_moves_all_seeds(name):
    later = EXPERIMENTS[name].run(replace(result(name).config, first_seed=1))
    one, other = BY_SEED[name](result(name)), BY_SEED[name](later)
    np.testing.assert_allclose(one[..., 1:], other[..., :-1])
    assert (one[..., 0] != other[..., -1]).any()


@pytest.mark.parametrize("name", CASES)
def test_verdicts_and_result_become_json(name):
    verdicts = EXPERIMENTS[name].verdicts(result(name))
    assert verdicts
    for verdict in verdicts.values():
        assert isinstance(verdict, Verdict)
        assert verdict.low <= verdict.effect <= verdict.high
        assert verdict.claim
        assert verdict.source
    read = json.loads(json.dumps(to_json(result(name)), allow_nan=False))
    assert read["config"]["seeds"] == verdict.seeds
    assert len(read) > 1
    assert len(json.loads(json.dumps(to_json(verdicts)))) == len(verdicts)
