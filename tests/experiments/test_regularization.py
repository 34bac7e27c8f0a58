from dataclasses import replace

import numpy as np
import pytest

from bnlib.experiments import batch_size, dropout, regularization, variance_shift
from bnlib.experiments.engine import networks, training
from bnlib.experiments.engine.regularizers import Curves
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
    others = (
        "layer",
        "ghost-4",
        "population",
        "gamma decay",
        "identity",
        *regularization.REGULARIZERS,
    )
    result = regularization.run(replace(SMALL, steps=15, others=others))
    assert set(result.curves) == {"none", "batch", *others}
    assert all(np.isfinite(c.test).all() for c in result.curves.values())
    for arm, strengths in regularization.STRENGTHS.items():
        assert result.curves[arm].strength in strengths


def at(loss):
    """Make curves of networks that have these losses, (k,), at every record."""
    scores = np.repeat(np.asarray(loss, float)[:, None, None], 3, axis=-1)
    return Curves(0.1, 0.0, np.arange(1), scores, scores, scores)


NOISE = np.array([0.0, 0.01, -0.01])


@pytest.mark.parametrize(("factor", "answer"), [(0.4, "supported"), (0.6, "refuted")])
def test_mild_is_at_most_half_of_what_the_best_regularizer_gains(factor, answer):
    gain = 0.3 + NOISE
    curves = {"none": at([2.0] * 3), "batch": at(2 - factor * gain)}
    curves |= {"dropout": at(2 - gain), "weight decay": at(2 - 0.9 * gain)}
    result = regularization.Result(SMALL, curves)
    verdict = regularization.judge_mildness(result)
    assert regularization.best_regularizer(result) == "dropout"
    np.testing.assert_allclose(verdict.effect, (0.5 - factor) * 0.3)
    assert verdict.answer == answer
    assert regularization.judge_mildness(result, "none").answer == "supported"
    assert regularization.judge_mildness(result, "dropout").answer == "refuted"


def test_mildness_cannot_be_told_where_nothing_is_to_be_gained():
    arms = ("none", "batch", *regularization.REGULARIZERS)
    result = regularization.Result(SMALL, {arm: at(2 + NOISE) for arm in arms})
    verdict = regularization.judge_mildness(result)
    assert (verdict.answer, verdict.reason) == ("cannot tell", "dropout gains nothing")


def test_ghosts_of_other_seeds_are_compared_with_batch_norm_of_other_seeds():
    losses = {"batch": 1.0, "batch again": 2.0, "ghost-4": 1.2, "ghost-4 again": 2.3}
    curves = {arm: at(loss + NOISE) for arm, loss in losses.items()}
    curves["batch"] = at([1.01, 1.0, 0.99])
    verdicts = regularization.judge_ghosts(regularization.Result(SMALL, curves))
    effects = {arm: round(each.effect, 6) for arm, each in verdicts.items()}
    assert effects == {"parts of 4": -0.2, "parts of 4 (other seeds)": -0.3}


def test_each_seed_draws_its_own_examples():
    config = networks.Config(n_train=200, redraw=True, seeds=3, lr=(0.1, 0.2), steps=2)
    data = networks.load_replicas(config)
    whole = networks.load(config.dataset)
    assert data.x_train.shape == (6, 200, 64)
    np.testing.assert_array_equal(data.x_train[:3], data.x_train[3:])  # the same at both rates
    assert (data.x_train[0] != data.x_train[1]).any()
    expected = np.column_stack([whole.x_train, whole.y_train])
    for x, y, x_rest, y_rest in zip(*data[:4], strict=True):
        rows = np.concatenate([np.column_stack([x, y]), np.column_stack([x_rest, y_rest])])
        assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))


def test_drawn_examples_are_trained_on():
    config = networks.Config(n_train=70, redraw=True, seeds=2, steps=3, batch_size=64)
    states = []
    training.train(config, {"loss": lambda state: states.append(state) or state.loss})
    state = states[-1]
    for replica in range(2):
        own = np.column_stack([state.data.x_train[replica], state.data.y_train[replica]])
        seen = np.column_stack([state.x[replica], state.labels[replica]])
        assert {*map(tuple, seen)} <= {*map(tuple, own)}


def test_drawing_needs_a_number_of_examples():
    with pytest.raises(ValueError, match="redraw: expected n_train"):
        networks.Config(redraw=True)
    with pytest.raises(ValueError, match="n_train: expected at most 1400"):
        networks.load_replicas(networks.Config(redraw=True, n_train=1500))


def test_recalibration_repairs_what_dropout_before_a_norm_did_and_nothing_else():
    config = variance_shift.Config(
        places=("before", "last"), probabilities=(0.5,), steps=60, seeds=4, width=24
    )
    verdicts = variance_shift.judge(variance_shift.run(config))
    before, last = verdicts.values()
    assert before.low > 0
    assert abs(last.effect) < before.effect / 2


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
        (regularization, {"others": ("whitening",)}, "arms: expected .* got 'whitening'"),
        (variance_shift, {"places": ("here",)}, "places: expected some of"),
        (variance_shift, {"probabilities": (1.0,)}, "probabilities: expected numbers from 0"),
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
