"""Exercises of :doc:`/book/motivation`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "motivation"


def condition_number(X):
    """Solve it: the largest over the smallest eigenvalue of H, for X (m, d)."""
    return ratio(2 / len(X) * X.T @ X)


def ratio(H):
    """Divide the largest eigenvalue by the smallest."""
    values = np.linalg.eigvalsh(H)
    return values[-1] / values[0]


def features(rng):
    """Give features with means, unequal scales and correlations."""
    mix = np.array([[1, 0.5, 0], [0, 1, -0.6], [0.3, 0, 1]])
    large = [(rng.normal(1, [1, 3, 0.5], (m, 3)) @ mix,) for m in (8, 20)]
    return [(rng.normal(1, 2, (3, 2)),), *large]


EXERCISES = (
    Exercise(
        name="he-std",
        page=PAGE,
        asks="one number, the standard deviation of the weights of a layer with 50 inputs",
        solution=0.2,
        rtol=0.005,
        mistakes=(
            Mistake(
                0.04,
                "You gave the variance of the weights; the standard deviation is its root.",
                "A sum of 50 squared weights should be near 2, and yours is 50 times 0.0016.",
                "Fifty layers",
            ),
            Mistake(
                0.02,
                "You divided 1 by the number of inputs; the 2 and the root are missing.",
                "A sum of 50 squared weights should be near 2, and yours is 50 times 0.0004.",
                "Fifty layers",
            ),
            Mistake(
                50**-0.5,
                "You left out the 2 for ReLU: that is Xavier initialization.",
                "ReLU removes half of the mean square, so the weights must double it.",
                "Fifty layers",
            ),
            Mistake(
                5.0,
                "You took the root of the inputs over 2; it is that of 2 over the inputs.",
                "A unit that adds up more inputs needs smaller weights.",
                "Fifty layers",
            ),
            Mistake(
                2 / 50**0.5,
                "Your 2 stands outside the root.",
                "The variance must be 2/50, and the square of your number is 4/50.",
                "Fifty layers",
            ),
            Mistake(
                2**0.5 / 50,
                "Your 50 stands outside the root.",
                "The variance must be 2/50, and the square of your number is 2/2500.",
                "Fifty layers",
            ),
        ),
        hint="The variance is 2/d.",
    ),
    Exercise(
        name="depth-factor",
        page=PAGE,
        asks="one number, by which factor 20 layers with s = 1.2 multiply the RMS",
        solution=1.2**20,
        rtol=0.02,
        mistakes=(
            Mistake(
                1.2 * 20,
                "You added the layers up; their factors multiply.",
                "Two layers with the factor 1.2 make 1.44, not 2.4.",
                "Fifty layers",
            ),
            Mistake(
                1 + 0.2 * 20,
                "You added 20 % of the first RMS in each layer; the factors multiply.",
                "Two layers with the factor 1.2 make 1.44, not 1.4.",
                "Fifty layers",
            ),
            Mistake(
                1.2**40,
                "You gave the factor of the mean square; the RMS is its root.",
                "Twice the weights make z twice as large, so the RMS doubles and not quadruples.",
                "Fifty layers",
            ),
            Mistake(
                1.2**10,
                "You took the root of 1.2; the RMS is proportional to the weights themselves.",
                "Twice the weights make z twice as large, so the RMS doubles.",
                "Fifty layers",
            ),
            Mistake(
                0.8**20,
                "You took weights that are 20 % too small.",
                "With weights that are too large the RMS grows.",
                "Fifty layers",
            ),
            Mistake(
                1.2**19,
                "You counted 19 layers.",
                "The first layer multiplies the RMS of the input, so all 20 count.",
                "Fifty layers",
            ),
        ),
        hint="By which factor does one layer multiply the RMS, and how many layers are there?",
    ),
    Exercise(
        name="condition-number",
        page=PAGE,
        asks="condition_number(X) returns the number kappa of H, for X of shape (m, d)",
        solution=condition_number,
        cases=features,
        mistakes=(
            Mistake(
                np.linalg.cond,
                "That is the condition number of X; H contains X twice, so it is the square.",
                "Multiply one of two orthogonal columns by 10: kappa must grow by 100.",
                "Curvature",
            ),
            Mistake(
                lambda X: 1 / condition_number(X),
                "You divided the smallest eigenvalue by the largest.",
                "No condition number is below 1.",
                "Curvature",
            ),
            Mistake(
                lambda X: ratio(np.cov(X.T)),
                "You subtracted the means; H has the columns of X as they are.",
                "Add 10 to a column: kappa must change, as in the exercise on the mean.",
                "Curvature",
            ),
            Mistake(
                lambda X: ratio(np.corrcoef(X.T)),
                "You took the correlations, and so you standardized the columns.",
                "Multiply a column by 10: kappa must change.",
                "Curvature",
            ),
            Mistake(
                lambda X: (X**2).sum(axis=0).max() / (X**2).sum(axis=0).min(),
                "You compared the entries on the diagonal of H; you need its eigenvalues.",
                "Two columns that are almost equal must give a large kappa.",
                "Curvature",
            ),
            Mistake(
                lambda X: X.var(axis=0).max() / X.var(axis=0).min(),
                "You compared the variances of the columns; you need the eigenvalues of H.",
                "Two columns that are almost equal must give a large kappa.",
                "Curvature",
            ),
            Mistake(
                lambda X: np.linalg.eigvalsh(2 / len(X) * X.T @ X)[-1],
                "You returned the largest curvature; kappa is its ratio to the smallest.",
                "Multiply X by 10: kappa must stay as it is.",
                "Curvature",
            ),
        ),
        hint="H is 2/m times X.T @ X, and np.linalg.eigvalsh sorts its eigenvalues.",
    ),
)
