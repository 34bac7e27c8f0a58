import dataclasses

import numpy as np
import pytest

from bnlib.experiments import covariate_shift as experiment

SMALL = experiment.Config(
    depths=(4, 4), width=12, rates=(0.001, 0.01), steps=4, every=2, seeds=4, batch_size=32
)


def change(**settings):
    return dataclasses.replace(SMALL, **settings)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_shapes(small):
    assert {s.shape for s in small.shift.values()} == {(2, 2, 2, 4)}
    assert small.cosine.shape == small.curvature.shape == small.loss.shape == (2, 2, 2, 4)
    assert all(np.isfinite(s).all() for s in small.shift.values())


def test_other_seeds_of_the_control_are_not_an_effect():
    result = experiment.run(change(norms=("none", "none again"), seeds=12))
    answers = {verdict.answer for verdict in experiment.judge(result).values()}
    assert not answers & {"supported", "refuted"}


def test_moments_are_held_by_batch_norm(small):
    verdicts = experiment.judge(small)
    assert {verdicts[f"moments, {a}"].answer for a in ("linear", "relu")} == {"supported"}


def test_shift_of_the_gradient_in_a_linear_network_hits_its_first_order_theory():
    result = experiment.run(change(architectures=("linear",), depths=(4,), rates=(1e-4,)))
    theory = result.curvature + np.log10(1e-4)
    np.testing.assert_allclose(result.shift["gradient"], theory, atol=0.01)


def test_rates_with_different_answers_are_what_it_depends_on(small):
    shift = {name: s.copy() for name, s in small.shift.items()}
    noise = np.linspace(-0.01, 0.01, small.config.seeds)
    shift["gradient"][0, 1] = shift["gradient"][0, 0] + np.array([-0.5, 0.5])[:, None] + noise
    result = dataclasses.replace(small, shift=shift)
    assert experiment.judge_rate(result, "gradient", 0, 0).answer == "supported"
    assert experiment.judge_rate(result, "gradient", 0, 1).answer == "refuted"
    assert experiment.judge(result)["gradient, linear"].answer == "it depends on the rate"


def test_rates_that_diverge_are_left_out():
    result = experiment.run(change(architectures=("relu",), depths=(4,), rates=(0.01, 1e6)))
    assert experiment.converged(result, 0).tolist() == [True, False]
    alone = experiment.run(change(architectures=("relu",), depths=(4,), rates=(0.01,)))
    for name, verdict in experiment.judge(alone).items():
        assert experiment.judge(result)[name].effect == pytest.approx(verdict.effect)
    by_definition = experiment.judge_definitions(alone)
    assert {f"{name}, relu": v for name, v in by_definition.items()} == experiment.judge(alone)
    alone = dataclasses.replace(alone, loss=np.full_like(alone.loss, np.nan))
    with pytest.raises(ValueError, match="no network diverges"):
        experiment.judge(alone)


def test_definitions_of_two_architectures_are_refused(small):
    with pytest.raises(ValueError, match="architectures: expected one, got"):
        experiment.judge_definitions(small)


def test_large_weights_before_batch_norm_make_the_shift_of_the_gradient_small(small):
    scaled = experiment.run(change(weight_scale=4.0))
    np.testing.assert_array_equal(scaled.shift["gradient"][:, 0], small.shift["gradient"][:, 0])
    assert (scaled.shift["gradient"][:, 1] < small.shift["gradient"][:, 1] - 0.5).all()


def test_explanation_of_synthetic_curves(small):
    """The shift is a function of rate times curvature: nothing is left to explain."""
    curvature = np.zeros((1, 2, 4, 4)) + np.array([0.0, 0.4])[:, None, None]
    rates = (0.001, 0.003, 0.01, 0.03)
    predicted = curvature + np.log10(rates)[:, None]
    result = dataclasses.replace(
        small,
        config=change(architectures=("linear",), depths=(4,), rates=rates),
        shift={"gradient": 2 * predicted},
        curvature=curvature,
        loss=np.zeros_like(predicted),
    )
    verdict = experiment.judge_explanation(result, 0)
    assert verdict.effect == pytest.approx(0.8)
    other = dataclasses.replace(result, shift={"gradient": 0 * predicted})
    assert experiment.judge_explanation(other, 0).answer == "cannot tell"


def test_one_norm_cannot_be_judged(small):
    result = dataclasses.replace(small, config=change(norms=("none",)))
    with pytest.raises(ValueError, match="two arms"):
        experiment.judge(result)
