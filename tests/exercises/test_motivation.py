import numpy as np
import pytest

from bnlib.exercises import check


@pytest.mark.parametrize("answer", [0.2, 1 / 5, np.sqrt(2 / 50)])
def test_he_std(answer):
    assert check("he-std", answer)


def test_he_std_of_xavier():
    assert "Xavier" in check("he-std", 0.1414).message


@pytest.mark.parametrize("answer", [38, 38.3, np.exp(20 * np.log(1.2))])
def test_depth_factor(answer):
    assert check("depth-factor", answer)


def test_depth_factor_of_the_mean_square():
    assert "mean square" in check("depth-factor", 38.3**2).message


def by_loops(X):
    m, d = X.shape
    H = np.zeros((d, d))
    for row in X:
        for i in range(d):
            for j in range(d):
                H[i, j] += 2 / m * row[i] * row[j]
    values = np.linalg.eigvals(H).real
    return max(values) / min(values)


def by_singular_values(X):
    values = np.linalg.svd(X, compute_uv=False)
    return (values[0] / values[-1]) ** 2


def by_power_iteration(X):
    H, largest = X.T @ X, []
    for matrix in (H, np.linalg.inv(H)):
        v = np.arange(1.0, len(H) + 1)
        for _ in range(2000):
            v = matrix @ v
            v /= np.linalg.norm(v)
        largest.append(v @ matrix @ v)
    return largest[0] * largest[1]


@pytest.mark.parametrize("answer", [by_loops, by_singular_values, by_power_iteration])
def test_condition_number(answer):
    assert check("condition-number", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda X: by_singular_values(X) ** 0.5, "condition number of X"),
        (lambda X: by_loops(X - X.mean(0)), "subtracted the means"),
        (lambda X: by_loops((X - X.mean(0)) / X.std(0)), "standardized the columns"),
        (lambda X: np.ptp(np.log(np.linalg.eigvalsh(X.T @ X))), "Not the right value"),
    ],
)
def test_condition_number_wrong(answer, says):
    assert says in check("condition-number", answer).message
