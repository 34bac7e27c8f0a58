import dataclasses

import numpy as np
import pytest
from scipy.integrate import dblquad

from bnlib.experiments import gradient_growth as experiment
from bnlib.experiments.engine import infinite_width

SMALL = experiment.Config(depth=24, width=60, m=16, seeds=6)
CASES = ("sigmoid", "ReLU, half of He", "ReLU, He", "residual, He")


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_shapes_and_orders(small):
    assert small.gradients["sigmoid"].shape == (2, 6, 25)
    plain = small.gradients["sigmoid"][0]
    assert (np.diff(plain) > 0.3).all()  # from the input to the output
    np.testing.assert_allclose(plain[:, -1], 0, atol=0.1)
    np.testing.assert_allclose(small.activations["sigmoid"][0, :, 0], 0, atol=0.1)


def test_a_seed_does_not_depend_on_the_others(small):
    later = experiment.run(dataclasses.replace(SMALL, seeds=2, first_seed=4))
    for case in CASES:
        np.testing.assert_allclose(later.gradients[case], small.gradients[case][:, 4:], atol=1e-9)


def test_judge_is_of_the_drift_with_batch_norm_alone(small):
    """Not of the difference: a network whose gradients explode does not satisfy the claim."""
    drift = np.zeros((2, 6, 25))
    drift[0, :, 0], drift[1, :, 0] = 30, 9 + np.linspace(0, 0.1, 6)
    one = dataclasses.replace(small, gradients={"ReLU, He": drift})
    verdict = experiment.judge(one)["ReLU, He"]
    assert (verdict.answer, round(verdict.effect, 2)) == ("refuted", -8.05)
    assert experiment.judge_difference(one)["ReLU, He"].answer == "supported"
    drift[1] /= 10
    assert experiment.judge(one)["ReLU, He"].answer == "supported"


def test_gradients_explode_where_they_grow_on_their_way_back(small):
    """The limit is one decade, and the direction counts: what vanishes does not explode."""
    noise = np.linspace(0, 0.1, 6)
    for grown, answer in ((1.5, "supported"), (0.5, "refuted"), (-9.0, "refuted")):
        gradients = np.zeros((2, 6, 25))
        gradients[1, :, 0] = grown + noise
        one = dataclasses.replace(small, gradients={"ReLU, He": gradients})
        verdict = experiment.judge_explosion(one)["ReLU, He"]
        assert (verdict.answer, round(verdict.effect, 2)) == (answer, round(grown + 0.05 - 1, 2))


def test_difference_says_where_batch_norm_helps_and_where_it_harms(small):
    answers = {case: v.answer for case, v in experiment.judge_difference(small).items()}
    assert answers == {
        "sigmoid": "supported",
        "ReLU, half of He": "supported",
        "ReLU, He": "refuted",
        "residual, He": "supported",
    }


def test_control_of_other_seeds_is_no_effect():
    config = experiment.Config(norms=("none", "none again"), depth=40)
    verdicts = experiment.judge_difference(experiment.run(config))
    assert {v.answer for v in verdicts.values()} == {"no effect"}


@pytest.mark.parametrize(
    ("case", "activation", "m"), [("ReLU, He", "relu", 32), ("linear", "linear", 8)]
)
def test_growth_hits_the_theory(case, activation, m):
    config = experiment.Config(cases=(case,), width=200, depth=12, m=m)
    without, with_norm = experiment.growth(experiment.run(config).gradients[case])
    theory = infinite_width.predict_growth(activation, m)
    error = with_norm.std(ddof=1) / np.sqrt(len(with_norm))
    assert abs(with_norm.mean() - theory) < 4 * error + 0.01 * theory
    assert 4 * error < 0.05
    np.testing.assert_allclose(without.mean(), 1, atol=0.03)


def test_growth_of_residual_networks_hits_the_theory():
    config = experiment.Config(cases=("residual, He",), depth=40)
    gradients = experiment.run(config).gradients["residual, He"][1]
    growth = 2 * np.log(10) * (gradients[:, 0] - gradients[:, -1])
    theory = np.log(infinite_width.predict_residual_growth(config.m, config.depth)).sum()
    np.testing.assert_allclose(growth.mean(), theory, rtol=0.03)


def test_growth_of_a_geometric_sequence():
    layers = np.arange(12)
    assert experiment.growth(np.stack([-0.5 * layers, 0 * layers])).tolist() == [10.0, 1.0]


def test_kernel_is_the_expected_product():
    for c in (-0.6, 0.0, 0.5):
        root = np.sqrt(1 - c * c)

        def density(v, u, c=c, root=root):
            product = max(u, 0) * max(c * u + root * v, 0)
            return product * np.exp(-(u * u + v * v) / 2) / (2 * np.pi)

        expected, _ = dblquad(density, 0, 9, -9, 9, epsabs=1e-7)
        np.testing.assert_allclose(infinite_width.relu_kernel(c), expected, atol=1e-5)


def test_prediction_is_the_expected_trace():
    """Against draws of z ~ N(0, I), with a backward pass that shares no formula."""
    m, rng = 6, np.random.default_rng(0)
    z = rng.standard_normal((400_000, m))
    c = z - z.mean(axis=1, keepdims=True)
    var = np.square(c).mean(axis=1)
    x_hat = c / np.sqrt(var)[:, None]
    g = rng.standard_normal(z.shape)
    g = (g - g.mean(axis=1, keepdims=True)) * (x_hat > 0)  # covariance G, then the ReLU
    dz = g - g.mean(axis=1, keepdims=True)
    dz = (dz - x_hat * (dz * x_hat).mean(axis=1, keepdims=True)) / np.sqrt(var)[:, None]
    relu = np.maximum(x_hat, 0)
    spread = relu.var(axis=1, ddof=1).mean()  # of the activations, over the mini-batch
    growth = np.square(dz).sum(axis=1).mean() / (m - 1) / spread
    np.testing.assert_allclose(infinite_width.predict_growth("relu", m), growth, rtol=0.02)


def test_limits_of_the_predictions():
    np.testing.assert_allclose(
        infinite_width.predict_growth("relu", 10**6), np.pi / (np.pi - 1), rtol=1e-5
    )
    power = np.diff(
        np.log(np.cumprod(infinite_width.predict_residual_growth(64, 4000))[[1999, -1]])
    )
    np.testing.assert_allclose(
        power / np.log(2), infinite_width.predict_growth("relu", 64), rtol=1e-2
    )


def test_errors_name_what_was_expected(small):
    with pytest.raises(ValueError, match="cases: expected some of"):
        experiment.run(dataclasses.replace(SMALL, cases=("step",)))
    one = dataclasses.replace(small, config=dataclasses.replace(SMALL, norms=("none",)))
    with pytest.raises(ValueError, match="two arms"):
        experiment.judge(one)
    with pytest.raises(ValueError, match="m: expected at least 4"):
        infinite_width.predict_growth("relu", 3)
    with pytest.raises(ValueError, match="activation: expected"):
        infinite_width.predict_growth("sigmoid", 8)
