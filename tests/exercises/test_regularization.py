import numpy as np
import pytest

from bnlib.exercises import check


def four(m=16, q=0.8, c=1.0, v=1.0):
    return (
        m**-0.5,
        (0.5 / m) ** 0.5,
        ((c**2 + v) / q - c**2) / v,
        abs(0.8 - 0.95),
    )


@pytest.mark.parametrize("answer", [four(), [0.25, 0.177, 1.5, 0.15], np.array(four())])
def test_four_numbers(answer):
    assert check("four-numbers", list(answer))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (four(q=0.2), "the one to keep"),
        (four(c=0.0), "mean 0"),
        ([1 / 16, 1 / 32, 1.5, 0.15], "the variances"),
        ([0.25, 0.177, 1.5, 15], "in per cent"),
    ],
)
def test_four_numbers_wrong(answer, says):
    assert says in check("four-numbers", answer).message


def covariance_of_dropped(w, c, cov, q):
    """Build the covariance matrix of x' from its second moments."""
    second = cov + np.outer(c, c)
    moments = second.copy()
    moments[np.diag_indices_from(moments)] /= q
    return w @ (moments - np.outer(c, c)) @ w, np.sum(np.outer(w, w) * cov)


def loop(w, c, cov, q):
    train = evaluated = 0.0
    for i in range(len(w)):
        for j in range(len(w)):
            evaluated += w[i] * w[j] * cov[i, j]
        train += w[i] ** 2 * (1 / q - 1) * (c[i] ** 2 + cov[i, i])
    return train + evaluated, evaluated


def all_masks(w, c, cov, q):
    """Use Var = E Var + Var E over every mask."""
    masks = np.array(np.meshgrid(*[[0, 1]] * len(w))).reshape(len(w), -1).T
    share = np.prod(np.where(masks, q, 1 - q), axis=1)
    scaled = masks * w / q
    within = np.einsum("ki,ij,kj->k", scaled, cov, scaled)
    means = scaled @ c
    return [share @ within + share @ means**2 - (share @ means) ** 2, w.T @ (cov @ w)]


@pytest.mark.parametrize("answer", [covariance_of_dropped, loop, all_masks])
def test_dropout_variance(answer):
    assert check("dropout-variance", answer)


def one_mask(w, c, cov, q):
    train = (w @ (cov + np.outer(c, c)) @ w) / q - (w @ c) ** 2
    return train, w @ cov @ w


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (one_mask, "one mask for all"),
        (lambda *given: [*reversed(loop(*given))], "in eval mode first"),
        (lambda w, c, cov, q: loop(w, c, np.diag(np.diag(cov)), q), "forgot the covariances"),
        (lambda w, c, cov, q: loop(w, np.zeros_like(c), cov, q), "forgot the means"),
        (lambda w, c, cov, q: (loop(w, c, cov, 1 - q)[0], loop(w, c, cov, q)[1]), "to drop"),
    ],
)
def test_dropout_variance_wrong(answer, says):
    assert says in check("dropout-variance", answer).message


def test_it_names_the_part_that_is_wrong():
    message = check("dropout-variance", lambda *given: (loop(*given)[0], 1.0)).message
    assert message.startswith("train is right. eval:")
