from dataclasses import replace

import numpy as np
import pytest

from bnlib.experiments import batch_size, dropout, regularization
from bnlib.experiments.records.registry import all_experiments
from bnlib.layers import BatchNorm, Dropout

SIZES = {"n_train": 128, "width": 12, "rates": (0.03, 0.1), "seeds": 4}
SMALL = regularization.Config(
    **SIZES, batch_size=16, steps=60, every=15, level=2.2, tuning_seeds=1, others=()
)
DROPOUT = dropout.Config(
    **SIZES, batch_size=16, steps=60, every=30, tuning_seeds=1, probabilities=(0.1, 0.5)
)
GAP = batch_size.Config(**SIZES, sizes=(8, 32), steps=32, epochs=4)


def test_control_from_other_seeds_is_no_effect():
    config = replace(SMALL, seeds=16, noise=SMALL.norms, others=("none again",))
    result = regularization.run(config)
    verdict = regularization.compare(result, "none", "none again")
    assert verdict.effect != 0
    assert verdict.answer in {"no effect", "undecided"}
    assert verdict.low < 0 < verdict.high


def test_dropout_without_dropout_does_no_harm():
    result = dropout.run(replace(DROPOUT, places=("every",)))
    key = (DROPOUT.norms[1], "every")
    same = replace(result, curves={**result.curves, key: result.curves[key[0], "no"]})
    verdict = dropout.judge(same)["never-with-dropout"]
    assert (verdict.answer, verdict.effect) == ("cannot tell", 0.0)


def test_harm_is_the_loss_with_dropout_minus_that_without():
    result = dropout.run(replace(DROPOUT, places=("before",)))
    alone, both = (result.curves["batch", place].stopped() for place in ("no", "before"))
    verdict = dropout.judge_combination(result, "before")
    np.testing.assert_allclose(verdict.effect, (both - alone).mean())
    assert result.best_place() == "before"


def test_gap_is_the_test_loss_minus_that_of_training():
    """Its growth from the smallest to the largest mini-batch is compared."""
    key = [(norm, regime) for norm in GAP.norms for regime in batch_size.REGIMES]
    losses = dict.fromkeys(key, batch_size.Losses(*np.zeros((3, 2, 4))))
    grown = batch_size.Losses(np.zeros(2), np.zeros((2, 4)), np.array([[1.0] * 4, [3.0] * 4]))
    result = batch_size.Result(GAP, {**losses, ("batch", "equal steps"): grown})
    effects = {regime: v.effect for regime, v in batch_size.judge(result).items()}
    assert effects == {"equal steps": 2.0, "equal epochs": 0.0}


def test_unreached_training_loss_is_refused():
    result = regularization.run(replace(SMALL, noise=SMALL.norms, level=1e-6))
    with pytest.raises(ValueError, match="expected finite values"):
        regularization.judge(result)


def test_arms_of_a_seed_start_from_the_same_weights():
    result = regularization.run(replace(SMALL, steps=15, noise=SMALL.norms, others=("ghost-8",)))
    batch, ghost = (result.curves[arm].train[:, 0] for arm in ("batch", "ghost-8"))
    assert np.abs(batch - ghost).max() < 0.2  # the running statistics alone differ


def test_all_arms_run():
    others = ("layer", "ghost-4", "population", "decay")
    result = regularization.run(replace(SMALL, steps=15, others=others))
    assert set(result.curves) == {"none", "batch", *others}
    assert all(np.isfinite(c.test).all() for c in result.curves.values())
    assert result.curves["decay"].strength in SMALL.decays


# ------------------------------------------------------------------ theory


@pytest.mark.parametrize(("kept", "ratio"), [(0.5, 2.467), (0.8, 1.367), (0.9, 1.163)])
def test_variance_shift_hits_the_theory(kept, ratio):
    """ReLU of a standard normal: mean^2 = 1 / (2 pi), mean square 1/2."""
    c2, v = 1 / (2 * np.pi), 1 / 2 - 1 / (2 * np.pi)
    np.testing.assert_allclose(((c2 + v) / kept - c2) / v, ratio, atol=5e-4)
    k, m = 16, 40_000
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((k, m, 1)), 0)
    drop = Dropout(1 - kept, rng=[np.random.default_rng([1, i]) for i in range(k)])
    norm = BatchNorm(1, momentum=1.0, seeds=k)
    norm(drop(x))
    measured = norm.running.var[:, 0] / x.var(axis=(1, 2))
    error = measured.std(ddof=1) / np.sqrt(k)
    np.testing.assert_allclose(measured.mean(), ratio, rtol=0, atol=4 * error)


# ------------------------------------------------------------------ configs


@pytest.mark.parametrize(
    ("module", "change", "message"),
    [
        (regularization, {"norms": ("none",)}, "norms: expected two arms"),
        (regularization, {"others": ("ghost-5",)}, "arms: expected .* got 'ghost-5'"),
        (regularization, {"others": ("group",)}, "arms: expected .* got 'group'"),
        (dropout, {"norms": ("none", "group")}, "norms: expected two of"),
        (dropout, {"places": ("here",)}, "places: expected some of"),
        (dropout, {"probabilities": (0.0,)}, "probabilities: expected numbers between"),
        (batch_size, {"norms": ("none",)}, "norms: expected two"),
        (batch_size, {"sizes": (8, 7)}, "sizes: expected rising divisors"),
    ],
)
def test_impossible_config_is_refused(module, change, message):
    with pytest.raises(ValueError, match=message):
        module.Config(**change)


def test_experiments_are_found_by_name():
    assert {"regularization", "dropout", "batch_size"} <= set(all_experiments())
