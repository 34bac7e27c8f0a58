"""Exercises of :doc:`/book/beyond_one_machine`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "beyond_one_machine"


def momentum_for(alpha, k):
    """Solve it: the momentum of one of k updates."""
    return 1 - (1 - alpha) ** (1 / k)


def loss_factors(counts):
    """Solve it: the factor of the mean loss in each process, (R,)."""
    return len(counts) * counts / counts.sum()


def parts(rng):
    """Give the numbers of examples in each process."""
    return [(np.array(counts),) for counts in ((1, 3), (8, 8, 8), (5, 11), (2, 2, 2, 10))]


EXERCISES = (
    Exercise(
        name="merge-by-hand",
        page=PAGE,
        asks="mean and biased variance of all four values, two numbers",
        solution=(3.0, 6.0),
        returns=("mean", "var"),
        rtol=0.005,
        mistakes=(
            Mistake(
                (3.0, 3.0),
                "You averaged the variances and left out that the means differ.",
                "Add n (mean of the process - common mean)**2 of both: 3 and 9.",
                "Synchronized BN, forward",
            ),
            Mistake(
                (4.0, 2.0),
                "You took plain averages over the processes.",
                "One process has three of the four values, so its mean counts three times.",
                "The smallest example",
            ),
            Mistake(
                (4.0, 6.0),
                "You gave both processes the same weight.",
                "The sum of all four values is 3 * 2 + 6 = 12, so their mean is 3.",
                "The smallest example",
            ),
            Mistake(
                (3.0, 4.0),
                "You took the variance of a process for its sum of squares.",
                "A biased variance of 4 over three values is a sum of squares of 12.",
                "Synchronized BN, forward",
            ),
            Mistake(
                (3.0, 8.0),
                "You divided by N - 1; BN normalizes with the biased variance.",
                "The squares about 3 sum to 24, and there are 4 values.",
                "Synchronized BN, forward",
            ),
            Mistake(
                (3.0, 24.0),
                "Your second number is the sum of squares, not their mean.",
                "Divide by the number of values.",
                "The smallest example",
            ),
            Mistake(
                (3.0, 19.0),
                "You added the full squared difference of the two means.",
                "What counts is the distance of each mean to the common mean 3: 1 and 3.",
                "Synchronized BN, forward",
            ),
        ),
        hint="Sums first: that of the values, then that of the squares about the common mean.",
    ),
    Exercise(
        name="accumulation-momentum",
        page=PAGE,
        asks="momentum_for(alpha, k) returns the weight of the new value in each of k updates",
        solution=momentum_for,
        cases=lambda rng: [(0.5, 2), (0.1, 8), (0.9, 4), (0.1, 1)],
        mistakes=(
            Mistake(
                lambda alpha, k: alpha / k,
                "You divided by k, which is right only to first order in alpha.",
                "Start from 1 and update k = 2 times with 0, alpha = 0.5: 0.5 must be left.",
                "Gradient accumulation is not a bigger mini-batch",
            ),
            Mistake(
                lambda alpha, k: alpha,
                "You left alpha as it is.",
                "Start from 1 and update k = 8 times with 0, alpha = 0.1: 0.9 must be left.",
                "Gradient accumulation is not a bigger mini-batch",
            ),
            Mistake(
                lambda alpha, k: 1 - (1 - alpha) ** k,
                "You computed how much k updates with alpha forget, the inverse question.",
                "The momentum must be smaller than alpha, and yours is larger.",
                "Gradient accumulation is not a bigger mini-batch",
            ),
            Mistake(
                lambda alpha, k: (1 - alpha) ** (1 / k),
                "You returned the weight of the old value, which is the momentum of Keras.",
                "With k = 1 the result must be alpha.",
                "Two directions of momentum",
                page="inference",
            ),
            Mistake(
                lambda alpha, k: alpha ** (1 / k),
                "You took the root of alpha; it is the weight of the old value that multiplies.",
                "The momentum must be smaller than alpha, and yours is larger.",
                "Why running statistics drift apart",
            ),
            Mistake(
                lambda alpha, k: alpha**k,
                "You multiplied the weights of the new values; those of the old value multiply.",
                "Start from 1 and update k = 2 times with 0, alpha = 0.5: 0.5 must be left.",
                "Why running statistics drift apart",
            ),
        ),
        hint="After k updates the old value has the weight (1 - alpha')**k. What must that be?",
    ),
    Exercise(
        name="loss-factors",
        page=PAGE,
        asks="loss_factors(counts) returns the factor of the loss in each process, (R,)",
        solution=loss_factors,
        cases=parts,
        mistakes=(
            Mistake(
                lambda counts: counts / counts.sum(),
                "You forgot that the average over the processes divides by R once more.",
                "With equal parts all factors must be 1.",
                "What each process sees",
            ),
            Mistake(
                lambda counts: np.ones(len(counts)),
                "You left the losses alone, which is right for equal parts only.",
                "With parts of 1 and 3 the single example counts as much as three others.",
                "What each process sees",
            ),
            Mistake(
                lambda counts: counts.sum() / (len(counts) * counts),
                "Your factors are upside down: large parts must weigh more, not less.",
                "With parts of 1 and 3 the factor of the second must be 3 times the first.",
                "What each process sees",
            ),
            Mistake(
                lambda counts: counts.sum() / counts,
                "Your factors are upside down, and R is missing.",
                "With equal parts all factors must be 1.",
                "What each process sees",
            ),
            Mistake(
                lambda counts: counts.astype(float),
                "With these factors the result is a sum over examples, divided by R.",
                "With equal parts all factors must be 1.",
                "What each process sees",
            ),
            Mistake(
                lambda counts: counts / len(counts),
                "You divided by R; the average over the processes does so already.",
                "With equal parts all factors must be 1.",
                "What each process sees",
            ),
        ),
        hint="The average of the processes is (1/R) sum of f_r grad L_r. Compare with m_r / m.",
    ),
)
