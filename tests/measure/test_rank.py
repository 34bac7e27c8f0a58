import numpy as np
import pytest

from bnlib.measure import entropy_rank, participation_rank, stable_rank

RANKS = [entropy_rank, participation_rank, stable_rank]
every_rank = pytest.mark.parametrize("rank", RANKS)


def with_singular_values(rng, s, m=7, d=5):
    """Return a matrix whose singular values are s, in random directions."""
    u, v = (np.linalg.qr(rng.standard_normal((n, len(s))))[0] for n in (m, d))
    return u * s @ v.T


@every_rank
@pytest.mark.parametrize("r", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_equal_singular_values_give_the_rank(rng, rank, r, scale):
    assert rank(with_singular_values(rng, np.full(r, scale))) == pytest.approx(r)


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (participation_rank, (9 + 4 + 1) ** 2 / (81 + 16 + 1)),
        (entropy_rank, 2 ** (1 / 2) * 3 ** (1 / 3) * 6 ** (1 / 6)),  # shares 1/2, 1/3, 1/6
        (stable_rank, (9 + 4 + 1) / 9),
    ],
)
def test_unequal_singular_values(rng, rank, expected):
    assert rank(with_singular_values(rng, np.array([3.0, 2.0, 1.0]))) == pytest.approx(expected)


def test_participation_rank_is_that_of_daneshmand(rng):
    x = rng.standard_normal((7, 5)) @ np.diag([5, 3, 1, 1, 0.1])
    m = x.T @ x / 7
    expected = np.trace(m) ** 2 / np.linalg.norm(m) ** 2
    assert participation_rank(x) == pytest.approx(expected)


def test_stable_rank_is_a_ratio_of_norms(rng):
    x = rng.standard_normal((7, 5))
    expected = (np.linalg.norm(x) / np.linalg.norm(x, 2)) ** 2
    assert stable_rank(x) == pytest.approx(expected)


@every_rank
def test_never_above_the_rank_and_in_order(rng, rank):
    for _ in range(20):
        x = with_singular_values(rng, rng.gamma(0.5, size=4))
        assert 1 - 1e-9 <= rank(x) <= 4 + 1e-9
        ranks = np.array([stable_rank(x), participation_rank(x), entropy_rank(x)])
        assert (np.diff(ranks) > -1e-9).all()  # all are 1 where one singular value is left


@every_rank
def test_leading_axes_are_kept(rng, rank):
    x = rng.standard_normal((2, 3, 7, 5)).astype(np.float32)
    found = rank(x)
    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    assert found[1, 2] == pytest.approx(rank(x[1, 2]))
    np.testing.assert_allclose(found, rank(x.swapaxes(-1, -2)))


@every_rank
def test_zero_matrix_has_no_rank(rank):
    found = rank(np.stack([np.zeros((3, 2)), np.eye(3, 2)]))
    np.testing.assert_allclose(found, [np.nan, 2])


@every_rank
def test_what_is_no_matrix_is_refused(rank):
    with pytest.raises(TypeError, match="x: expected float16, float32 or float64, got int64"):
        rank(np.eye(2, dtype=np.int64))
    for shape in ((3,), (0, 3)):
        with pytest.raises(ValueError, match=r"x: expected shape \(..., m, d\)"):
            rank(np.ones(shape))
    with pytest.raises(ValueError, match="x: expected finite values"):
        rank(np.array([[np.nan]]))
