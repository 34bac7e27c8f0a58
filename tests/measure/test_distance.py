import numpy as np
import pytest
from scipy import integrate, stats

from bnlib.measure import activation_moments, moment_difference, symmetric_kl, wasserstein_distance

DISTANCES = [wasserstein_distance, symmetric_kl, moment_difference]
every_distance = pytest.mark.parametrize("distance", DISTANCES)


def test_wasserstein_equals_scipy(rng):
    a, b = rng.standard_normal((3, 20, 4)), rng.gamma(1.0, size=(3, 20, 4))
    found = wasserstein_distance(a, b)
    expected = [
        [stats.wasserstein_distance(a[i, :, j], b[i, :, j]) for j in range(4)] for i in range(3)
    ]
    np.testing.assert_allclose(found, expected)


def test_wasserstein_of_a_shift_is_the_shift(rng):
    a = rng.standard_normal((20, 3))
    shift = np.array([0.5, -2.0, 0.0])
    np.testing.assert_allclose(wasserstein_distance(a, rng.permutation(a) + shift), np.abs(shift))


def test_wasserstein_of_images_by_channel(rng):
    a, b = rng.standard_normal((2, 5, 3, 4, 4)), rng.standard_normal((2, 5, 3, 4, 4))
    found = wasserstein_distance(a, b, axes=(-4, -2, -1))
    assert found.shape == (2, 3)
    expected = stats.wasserstein_distance(a[1, :, 2].ravel(), b[1, :, 2].ravel())
    assert found[1, 2] == pytest.approx(expected)
    assert wasserstein_distance(a[0], b[0], axes=(0, 1, 2, 3)).shape == ()


def sample(mean, std):
    """Two values with this mean and standard deviation (divisor m)."""
    return np.array([[mean - std], [mean + std]], dtype=float)


@pytest.mark.parametrize(("p", "q"), [((0, 1), (1, 1)), ((0, 1), (0, 2)), ((1, 0.5), (-0.3, 1.7))])
def test_symmetric_kl_equals_the_integral(p, q):
    one, other = stats.norm(*p), stats.norm(*q)

    def integrand(x):
        return (one.pdf(x) - other.pdf(x)) * (one.logpdf(x) - other.logpdf(x))

    expected = integrate.quad(integrand, -20, 20, points=[p[0], q[0]])[0]
    assert symmetric_kl(sample(*p), sample(*q))[0] == pytest.approx(expected)
    assert symmetric_kl(sample(*q), sample(*p))[0] == pytest.approx(expected)


def test_symmetric_kl_does_not_depend_on_the_scale(rng):
    a, b = rng.standard_normal((9, 4)), rng.gamma(1.0, size=(7, 4))
    np.testing.assert_allclose(symmetric_kl(10 * a, 10 * b), symmetric_kl(a, b))


def test_symmetric_kl_of_constant_units():
    a = np.array([[0.1, 0.1, 0.1, 0.0], [0.1, 0.1, 0.1, 1.0]])
    b = np.array([[0.1, 0.2, 0.0, 0.5], [0.1, 0.2, 1.0, 0.5]])
    np.testing.assert_array_equal(symmetric_kl(a, b), [0, np.inf, np.inf, np.inf])


def test_moment_difference_is_after_minus_before(rng):
    a, b = rng.gamma(1.0, size=(2, 9, 4)), rng.gamma(2.0, size=(2, 7, 4))
    found = moment_difference(a, b)
    np.testing.assert_allclose(found.mean, b.mean(axis=1) - a.mean(axis=1))
    np.testing.assert_allclose(found.std, b.std(axis=1) - a.std(axis=1))
    np.testing.assert_allclose(found.skewness, stats.skew(b, 1) - stats.skew(a, 1))
    np.testing.assert_allclose(found.kurtosis, stats.kurtosis(b, 1) - stats.kurtosis(a, 1))
    assert type(found) is type(activation_moments(a))


@every_distance
def test_a_sample_has_no_distance_to_itself(rng, distance):
    a = rng.standard_normal((3, 20, 4)).astype(np.float32)
    np.testing.assert_array_equal(distance(a, a), 0)


@every_distance
def test_samples_are_not_modified(rng, distance):
    a, b = rng.standard_normal((2, 9, 4))
    copies = a.copy(), b.copy()
    distance(a, b)
    np.testing.assert_array_equal([a, b], copies)


@every_distance
def test_samples_that_do_not_fit_are_refused(distance):
    with pytest.raises(ValueError, match=r"b: expected the shape \(3, 2\) of a.*got \(3, 4\)"):
        distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(TypeError, match="b: expected float16, float32 or float64, got int64"):
        distance(np.zeros((3, 2)), np.zeros((3, 2), np.int64))
    with pytest.raises(ValueError, match="a: expected at least one value"):
        distance(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ValueError, match="axes: 5 is out of range"):
        distance(np.zeros((3, 2)), np.zeros((3, 2)), 5)
