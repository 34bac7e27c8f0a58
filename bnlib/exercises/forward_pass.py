"""Exercises of :doc:`/book/forward_pass`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "forward_pass"


def standardize(x, eps):
    """Solve it: x_hat (m, d) of x (m, d)."""
    c = x - x.mean(axis=0)
    return c / np.sqrt((c**2).mean(axis=0) + eps)


def mini_batches(rng):
    """Give features of several means and scales, with an eps that matters."""
    return [(rng.normal(3, [1, 0.2, 4], (m, 3)), eps) for m, eps in ((3, 0.5), (8, 0.01), (5, 2))]


def merge(mean_1, var_1, m_1, mean_2, var_2, m_2):
    """Solve it: mean and biased variance of all m_1 + m_2 examples."""
    m, delta = m_1 + m_2, mean_2 - mean_1
    var = (m_1 * var_1 + m_2 * var_2 + delta**2 * m_1 * m_2 / m) / m
    return mean_1 + delta * m_2 / m, var


def weighted(mean_1, var_1, m_1, mean_2, var_2, m_2):
    """Average both, weighted by the numbers of examples."""
    m = m_1 + m_2
    return (m_1 * mean_1 + m_2 * mean_2) / m, (m_1 * var_1 + m_2 * var_2) / m


def unbiased_of_all(mean_1, var_1, m_1, mean_2, var_2, m_2):
    """Merge, and divide by m - 1."""
    mean, var = merge(mean_1, var_1, m_1, mean_2, var_2, m_2)
    return mean, unbiased(m_1 + m_2, var)


def of_squares(mean_1, var_1, m_1, mean_2, var_2, m_2):
    """Subtract the square of the mean from the mean of the squares."""
    mean, squares = weighted(mean_1, var_1 + mean_1**2, m_1, mean_2, var_2 + mean_2**2, m_2)
    return mean, squares - mean**2


def halves(rng):
    """Give the statistics of halves of different sizes and means.

    The last halves have a mean so large that its square absorbs the variance. It is a power of two
    and so is m, so that every way to subtract squares gives 0 exactly.
    """
    large = np.full(2, 2.0**30)
    return [
        (rng.normal(0, 3, 2), rng.uniform(1, 2, 2), m_1, rng.normal(0, 3, 2), np.ones(2), m_2)
        for m_1, m_2 in ((2, 4), (6, 14), (9, 1))
    ] + [(large, rng.uniform(1, 2, 2), 3, large, np.ones(2), 5)]


def unbiased(m, var):
    """Turn a biased variance into an unbiased one."""
    return var * m / (m - 1)


EXERCISES = (
    Exercise(
        name="standardize-by-hand",
        page=PAGE,
        asks="x_hat, three numbers, for x = (1, 1, 4) and eps = 2",
        solution=(-0.5, -0.5, 1.0),
        returns=("x_hat_1", "x_hat_2", "x_hat_3"),
        rtol=0.006,
        mistakes=(
            Mistake(
                (-1 / 5**0.5, -1 / 5**0.5, 2 / 5**0.5),
                "You divided the sum of the squares by m - 1; what normalizes has the divisor m.",
                "With m = 3 the squares 1, 1 and 4 have the mean 2, not 3.",
                "The equation",
            ),
            Mistake(
                (-1 / 2**0.5, -1 / 2**0.5, 2**0.5),
                "You left eps out.",
                "Variance and eps are 2 each, so the root is that of 4.",
                "Four numbers on paper",
            ),
            Mistake(
                (-1 / (2**0.5 + 2), -1 / (2**0.5 + 2), 2 / (2**0.5 + 2)),
                "You added eps to the standard deviation; it stands inside the root.",
                "sqrt(2 + 2) is 2, and sqrt(2) + 2 is 3.41.",
                "What eps does",
            ),
            Mistake(
                (-0.25, -0.25, 0.5),
                "You divided by the variance plus eps and took no root.",
                "Doubled x would give other numbers with eps = 0, and it must not.",
                "What is removed: shift and scale",
            ),
            Mistake(
                (0.5, 0.5, 2.0),
                "You did not subtract the mean.",
                "x_hat must sum to 0.",
                "Four numbers on paper",
            ),
        ),
        hint="The mean is 2. Square the three differences to it, and take the mean of the squares.",
    ),
    Exercise(
        name="standardize",
        page=PAGE,
        asks="standardize(x, eps) returns x_hat of shape (m, d) for x of shape (m, d)",
        solution=standardize,
        cases=mini_batches,
        mistakes=(
            Mistake(
                lambda x, eps: (x - x.mean(0)) / (x.std(0) + eps),
                "Your eps stands outside the root.",
                "With variance 0 the root is sqrt(eps), and yours is eps.",
                "What eps does",
            ),
            Mistake(
                lambda x, eps: (x - x.mean(0)) / np.sqrt(unbiased(len(x), x.var(0)) + eps),
                "You normalize with the unbiased variance, of divisor m - 1.",
                "With eps = 0 the squares of each column of x_hat must sum to m.",
                "The equation",
            ),
            Mistake(
                lambda x, eps: (
                    (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps)
                ),
                "You average over the features of an example: that is layer norm.",
                "Each column of x_hat must have the mean 0, over the examples.",
                "The equation",
            ),
            Mistake(
                lambda x, eps: (x - x.mean()) / np.sqrt(x.var() + eps),
                "You take one mean and one variance of the whole array.",
                "Each feature has statistics of its own: mean has the shape (d,).",
                "The equation",
            ),
            Mistake(
                lambda x, eps: (x - x.mean(0)) / (x.var(0) + eps),
                "You divide by the variance; the root is missing.",
                "Multiply x by 10: for a tiny eps x_hat must stay as it is.",
                "What is removed: shift and scale",
            ),
            Mistake(
                lambda x, eps: x / np.sqrt(x.var(0) + eps),
                "You do not subtract the mean.",
                "Add 5 to x: x_hat must stay as it is.",
                "What is removed: shift and scale",
            ),
            Mistake(
                lambda x, eps: (x - x.mean(0)) / x.std(0),
                "You left eps out.",
                "A feature of variance 0 becomes 0/0.",
                "What eps does",
            ),
        ),
        hint="First the mean of each column, then the mean of the squared differences to it.",
    ),
    Exercise(
        name="merge",
        page=PAGE,
        asks="merge(mean_1, var_1, m_1, mean_2, var_2, m_2) returns mean and biased var",
        solution=merge,
        cases=halves,
        returns=("mean", "var"),
        mistakes=(
            Mistake(
                weighted,
                "You average the variances and forget that the means differ.",
                "Merge (0, 0) and (2, 2): both variances are 0, that of all four numbers is 1.",
                "Synchronized BN, forward",
                page="beyond_one_machine",
            ),
            Mistake(
                lambda a, v, m, b, w, n: ((a + b) / 2, (v + w) / 2),
                "You give both halves the same weight, and forget that the means differ.",
                "Try halves of 1 and 99 examples.",
                "Synchronized BN, forward",
                page="beyond_one_machine",
            ),
            Mistake(
                lambda a, v, m, b, w, n: (
                    weighted(a, v, m, b, w, n)[0],
                    weighted(a, v, m, b, w, n)[1] + (b - a) ** 2,
                ),
                "You add the full squared difference of the means.",
                "Merge (0, 0) and (2, 2): the means differ by 2, the variance of all is 1.",
                "Synchronized BN, forward",
                page="beyond_one_machine",
            ),
            Mistake(
                unbiased_of_all,
                "Your variance of all is unbiased; the halves came with divisor m, so must it.",
                "Merge (0, 0) and (2, 2): the divisor 4 gives 1, the divisor 3 gives 4/3.",
                "The equation",
            ),
            Mistake(
                of_squares,
                "You subtract the square of the mean from the mean of the squares: for a large "
                "mean this is a cancellation, in which the digits of the variance are lost.",
                "Give both halves the mean 2**30 and the variance 1: yours becomes 0.",
                "The variance in float32 (optional)",
            ),
        ),
        hint="The squares around the common mean: those around the own mean, plus m_1 times the "
        "squared distance of the two means.",
    ),
)
