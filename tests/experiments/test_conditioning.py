import numpy as np
import pytest

from bnlib.experiments import conditioning as experiment

SMALL = experiment.Config(ratios=(1.0, 5.0), m=20, seeds=3, tolerance=1e-4)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_steps_are_those_of_the_theory(small):
    """With two features and the best rate both directions shrink by the same factor."""
    rate = (small.condition - 1) / (small.condition + 1)
    theory = np.ceil(np.log(1 / SMALL.tolerance) / (-2 * np.log(rate)))
    np.testing.assert_allclose(small.steps, theory, rtol=0, atol=1)


def test_standardized_features_do_not_notice_the_unit(small):
    np.testing.assert_array_equal(small.steps[1, 0], small.steps[1, 1])
    assert (small.steps[0, 1] > 2 * small.steps[0, 0]).all()


def test_standardized_condition_is_that_of_the_correlation(small):
    for seed in range(SMALL.seeds):
        x, _ = experiment.draw(SMALL, 5.0, seed)
        rho = abs(np.corrcoef(x.T)[0, 1])
        np.testing.assert_allclose(small.condition[1, 1, seed], (1 + rho) / (1 - rho))


def test_drawn_features_have_their_units_and_correlation():
    config = experiment.Config(m=20_000, correlation=-0.6)
    x, t = experiment.draw(config, 10.0, 0)
    np.testing.assert_allclose(x.std(axis=0), [1, 10], rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(x.T)[0, 1], -0.6, atol=0.02)
    residual = t - x @ np.linalg.lstsq(x, t)[0]
    np.testing.assert_allclose(residual.std(), config.noise, rtol=0.05)
    np.testing.assert_array_equal(experiment.draw(config, 1.0, 0)[1], t)  # the unit alone


def test_hessian_is_that_of_the_mean_squared_error():
    rng = np.random.default_rng(0)
    x, t, w, e = (rng.standard_normal(shape) for shape in ((7, 3), (7, 1), (3, 1), (3, 1)))

    def loss(w):
        return np.square(x @ w - t).mean()

    second = loss(w + e) - 2 * loss(w) + loss(w - e)
    np.testing.assert_allclose(second, (e.T @ experiment.hessian(x) @ e).item())


def test_too_large_a_rate_is_reported():
    x, t = experiment.draw(SMALL, 1.0, 0)
    with pytest.raises(RuntimeError, match="no convergence"):
        experiment.train(x[None], t[None], np.array([10.0]), 1e-3)


def test_judge_finds_that_standardized_features_need_fewer_steps(small):
    verdict = experiment.judge(small)
    assert verdict.answer == "supported"
    steps = np.log10(small.steps)
    np.testing.assert_allclose(verdict.effect, (steps[0, 1] - steps[1, 1]).mean())
