"""Exercises of :doc:`/book/regularization`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "regularization"
NOISE = "The noise of the batch statistics"
SHIFT = "Dropout before BN: the variance shift"
STD = 1 / 32**0.5
"""Standard deviation of sigma_B of 16 standard normal values."""


def dropout_variance(w, c, cov, q):
    """Solve it: the variance of w x' in train mode and in eval mode."""
    evaluated = w @ cov @ w
    return evaluated + (1 - q) / q * (w**2) @ (c**2 + np.diag(cov)), evaluated


def with_train(train):
    """Let the variance in train mode be `train(w, c, cov, q)`."""
    return lambda w, c, cov, q: (train(w, c, cov, q), w @ cov @ w)


def independent(w, c, cov, q):
    """Drop the covariances."""
    return dropout_variance(w, c, np.diag(np.diag(cov)), q)


def units(rng):
    """Give weights, means and covariance matrices of a few activations."""
    cases = []
    for d, q in ((2, 0.8), (4, 0.9), (3, 0.3)):
        mixing = rng.normal(size=(d, d))
        cases.append((rng.normal(size=d), rng.normal(1, 1, d), mixing @ mixing.T, q))
    return cases


EXERCISES = (
    Exercise(
        name="four-numbers",
        page=PAGE,
        asks="four numbers, the standard deviations of mu_B and of sigma_B, the factor R, and "
        "the ECE",
        solution=(0.25, STD, 1.5, 0.15),
        returns=("that of mu_B", "that of sigma_B", "R", "ECE"),
        rtol=0.02,
        mistakes=(
            Mistake(
                (0.0625, 0.03125, 1.5, 0.15),
                "You gave the variances of mu_B and sigma_B; asked are the standard deviations.",
                "Take the roots of 1/16 and 1/32.",
                NOISE,
            ),
            Mistake(
                (0.25, 0.25, 1.5, 0.15),
                "You took the noise of mu_B for that of sigma_B.",
                "For a Gaussian (kappa - 1)/4 is 1/2, so the variance is half as large.",
                NOISE,
            ),
            Mistake(
                (0.25, 0.125, 1.5, 0.15),
                "You halved the standard deviation of mu_B; it is the variance that is halved.",
                "The variance of sigma_B is (1/2)/16: take its root.",
                NOISE,
            ),
            Mistake(
                (0.25, STD, 9.0, 0.15),
                "You took q for the probability to drop; in this chapter q is the one to keep.",
                "If nearly all is kept, q near 1, the factor must be near 1.",
                SHIFT,
            ),
            Mistake(
                (0.25, STD, 1.25, 0.15),
                "You took 1/q, which is the factor for activations with mean 0.",
                "Here c^2 = v, so (c^2 + v)/v is 2 and not 1.",
                SHIFT,
            ),
            Mistake(
                (0.25, STD, 2.5, 0.15),
                "You divided the whole second moment by q and did not subtract c^2.",
                "Without dropout, q = 1, the factor must be 1.",
                SHIFT,
            ),
            Mistake(
                (0.25, STD, 1.5**0.5, 0.15),
                "You gave the factor of the standard deviation; asked is that of the variance.",
                "Square your third number.",
                SHIFT,
            ),
            Mistake(
                (0.25, STD, 1.5, 0.12),
                "You weighted the gap by the accuracy; the weight is the share of the examples.",
                "All examples are in this bin, so the weight is 1.",
                "What to measure",
            ),
            Mistake(
                (0.25, STD, 1.5, 15.0),
                "You gave the ECE in per cent; it is a share.",
                "No accuracy and no confidence exceeds 1, so their gap does not either.",
                "What to measure",
            ),
            Mistake(
                (0.25, STD, 1.5, -0.15),
                "You kept the sign; the error counts gaps in both directions as positive.",
                "Take the absolute value of accuracy minus confidence.",
                "What to measure",
            ),
        ),
        hint="1/m and (kappa - 1)/(4 m) are variances. R and the ECE are one line each.",
    ),
    Exercise(
        name="dropout-variance",
        page=PAGE,
        asks="dropout_variance(w, c, cov, q) returns the variance in train mode and in eval mode",
        solution=dropout_variance,
        cases=units,
        returns=("train", "eval"),
        mistakes=(
            Mistake(
                with_train(lambda w, c, cov, q: dropout_variance(w, c, cov, 1 - q)[0]),
                "You took q for the probability to drop; it is the probability to keep.",
                "With q = 1 nothing is dropped, so train and eval mode must agree.",
                SHIFT,
            ),
            Mistake(
                with_train(lambda w, c, cov, q: dropout_variance(w, 0 * c, cov, q)[0]),
                "You forgot the means: dropping an activation of mean c removes c, too.",
                "An activation that is always 1 has variance 0, but with dropout it varies.",
                SHIFT,
            ),
            Mistake(
                lambda w, c, cov, q: dropout_variance(w, c, cov, q)[::-1],
                "You returned the variance in eval mode first.",
                "Dropout adds noise, so the first variance, in train mode, must be the larger one.",
                SHIFT,
            ),
            Mistake(
                independent,
                "You forgot the covariances of the activations.",
                "Two equal activations with the weights 1 and -1 cancel: eval must be 0.",
                SHIFT,
            ),
            Mistake(
                with_train(lambda w, c, cov, q: independent(w, c, cov, q)[0]),
                "You forgot the covariances in train mode; dropout leaves them as they are.",
                "With q = 1 train and eval mode must agree.",
                SHIFT,
            ),
            Mistake(
                with_train(lambda w, c, cov, q: w @ cov @ w / q + (1 - q) / q * w**2 @ c**2),
                "You divided the covariances by q; only the variances change.",
                "The masks are independent, so q^2 from the masks cancels 1/q^2 for two units.",
                SHIFT,
            ),
            Mistake(
                with_train(
                    lambda w, c, cov, q: w @ cov @ w + (1 - q) / q * ((w @ c) ** 2 + w @ cov @ w)
                ),
                "You used one mask for all activations; each of them has its own.",
                "With two equal activations and weights 1 and -1 the train variance must not be 0.",
                SHIFT,
            ),
            Mistake(
                with_train(lambda w, c, cov, q: w @ cov @ w + (w**2) @ (c**2 + np.diag(cov)) / q),
                "You added the whole second moment, divided by q, to what was there already.",
                "With q = 1 train and eval mode must agree: the factor is (1 - q)/q.",
                SHIFT,
            ),
            Mistake(
                with_train(
                    lambda w, c, cov, q: w @ cov @ w + (1 - q) / q * w @ (c**2 + np.diag(cov))
                ),
                "You forgot to square the weights.",
                "A variance must stay the same if all weights change their sign.",
                SHIFT,
            ),
            Mistake(
                with_train(
                    lambda w, c, cov, q: w @ cov @ w + (1 - q) * (w**2) @ (c**2 + np.diag(cov))
                ),
                "You have 1 - q where (1 - q)/q belongs: what is kept is divided by q.",
                "One activation of mean 0 must have 1/q times its variance of eval mode.",
                SHIFT,
            ),
        ),
        hint="Start from the covariance matrix of the activations. Dropout adds something to its "
        "diagonal only.",
    ),
)
