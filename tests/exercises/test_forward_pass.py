import numpy as np
import pytest

from bnlib.exercises import check


def loop(x, eps):
    x_hat = np.empty_like(x)
    for j in range(x.shape[1]):
        mean = sum(x[:, j]) / len(x)
        var = sum((x_i - mean) ** 2 for x_i in x[:, j]) / len(x)
        x_hat[:, j] = [(x_i - mean) / (var + eps) ** 0.5 for x_i in x[:, j]]
    return x_hat


def vectorized(x, eps):
    return (x - np.mean(x, 0, keepdims=True)) * (np.var(x, 0, keepdims=True) + eps) ** -0.5


def features_first(x, eps):
    x = x.T
    mean, var = x.mean(1)[:, None], x.var(1)[:, None]
    return ((x - mean) / np.sqrt(var + eps)).T


@pytest.mark.parametrize("answer", [loop, vectorized, features_first])
def test_standardize(answer):
    assert check("standardize", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, eps: loop(x, 0) * x.std(0) / (x.std(0) + eps), "eps stands outside the root"),
        (lambda x, eps: loop(x.T, eps).T, "layer norm"),
        (lambda x, eps: loop(x.reshape(-1, 1), eps).reshape(x.shape), "the whole array"),
    ],
)
def test_standardize_wrong(answer, says):
    assert says in check("standardize", answer).message


@pytest.mark.parametrize(
    "answer", [(-0.5, -0.5, 1), [-0.5, -0.5, 1.0], np.array([[-0.5], [-0.5], [1]])]
)
def test_standardize_by_hand(answer):
    assert check("standardize-by-hand", answer)


def of_all_squares(mean_1, var_1, m_1, mean_2, var_2, m_2):
    m = m_1 + m_2
    mean = (m_1 * mean_1 + m_2 * mean_2) / m
    return mean, (m_1 * (var_1 + mean_1**2) + m_2 * (var_2 + mean_2**2)) / m - mean**2


def by_numbers_of_pairs(mean_1, var_1, m_1, mean_2, var_2, m_2):
    """Take half the mean squared difference of all pairs of examples."""
    same = m_1**2 * var_1 + m_2**2 * var_2
    across = m_1 * m_2 * (var_1 + var_2 + (mean_1 - mean_2) ** 2)
    w = m_2 / (m_1 + m_2)
    return (1 - w) * mean_1 + w * mean_2, (same + across) / (m_1 + m_2) ** 2


def around_the_common_mean(mean_1, var_1, m_1, mean_2, var_2, m_2):
    mean = np.average([mean_1, mean_2], axis=0, weights=[m_1, m_2])
    squares = [var_1 + (mean_1 - mean) ** 2, var_2 + (mean_2 - mean) ** 2]
    return mean, np.average(squares, axis=0, weights=[m_1, m_2])


def of_examples(mean_1, var_1, m_1, mean_2, var_2, m_2):
    """Make two examples a half that have its statistics, and weigh them."""
    parts = [mean_1 - var_1**0.5, mean_1 + var_1**0.5, mean_2 - var_2**0.5, mean_2 + var_2**0.5]
    weights = np.array([m_1, m_1, m_2, m_2]) / (2 * (m_1 + m_2))
    mean = sum(w * part for w, part in zip(weights, parts, strict=True))
    return mean, sum(w * (part - mean) ** 2 for w, part in zip(weights, parts, strict=True))


@pytest.mark.parametrize("answer", [by_numbers_of_pairs, around_the_common_mean, of_examples])
def test_merge(answer):
    assert check("merge", answer)


def test_merge_with_equal_weights_is_told():
    def answer(mean_1, var_1, m_1, mean_2, var_2, m_2):
        return np.mean([mean_1, mean_2], 0), np.mean([var_1, var_2], 0)

    assert "same weight" in check("merge", answer).message


def of_second_moments(mean_1, var_1, m_1, mean_2, var_2, m_2):
    w_1, w_2 = m_1 / (m_1 + m_2), m_2 / (m_1 + m_2)
    mean = w_1 * mean_1 + w_2 * mean_2
    return mean, w_1 * var_1 + w_1 * mean_1**2 + w_2 * (var_2 + mean_2**2) - mean * mean


@pytest.mark.parametrize("answer", [of_all_squares, of_second_moments])
def test_merge_with_a_mean_of_squares_is_told(answer):
    feedback = check("merge", answer)
    assert not feedback
    assert "cancellation" in feedback.message


def test_standardize_by_hand_with_the_unbiased_variance():
    x = np.array([1.0, 1.0, 4.0])
    answer = (x - x.mean()) / np.sqrt(x.var(ddof=1) + 2)
    assert "divisor m" in check("standardize-by-hand", answer).message
