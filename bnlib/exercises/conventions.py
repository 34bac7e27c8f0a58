"""Exercises of :doc:`/book/conventions`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "conventions"
EPS = "A wrong epsilon"
DIVISOR = "A wrong divisor"
MOMENTUM = "A reversed momentum"


def absorb(var, eps, fixed):
    """Solve it: the variance for a device that adds `fixed`, nan where there is none."""
    moved = var + eps - fixed
    return np.where(moved < 0, np.nan, moved)


def variances(rng):
    """Give variances from small to large; the last two cases have some that cannot be moved."""
    return [
        (np.array([0.002, 0.5, 3.0]), 1e-5, 1e-3),
        (rng.uniform(0.1, 2, 4), 1e-3, 1e-5),
        (np.array([1e-4, 0.02, 0.0]), 1e-5, 1e-3),
        (np.array([0.3, 0.6]), 0.1, 0.5),
    ]


def to_unbiased(var, m, momentum, steps):
    """Solve it: the unbiased running variance, (d,)."""
    start = momentum**steps
    return start + m / (m - 1) * (var - start)


def averages(rng):
    """Give biased running variances, sizes, momenta of Keras and numbers of steps."""
    return [
        (rng.uniform(1, 3, 3), m, momentum, steps)
        for m, momentum, steps in ((4, 0.9, 5), (2, 0.7, 2), (16, 0.99, 50))
    ]


EXERCISES = (
    Exercise(
        name="from-keras-by-hand",
        page=PAGE,
        asks="momentum, eps, running_var that keeps the predictions, running_var to go on training",
        solution=(0.01, 0.001, 6.0, 8.0),
        returns=(
            "momentum",
            "eps",
            "running_var that keeps the predictions",
            "running_var to go on",
        ),
        mistakes=(
            Mistake(
                (0.99, 0.001, 6.0, 8.0),
                "You copied the momentum; PyTorch's weighs the new value.",
                "The two momenta must add up to 1.",
                MOMENTUM,
            ),
            Mistake(
                (0.01, 1e-5, 6.0, 8.0),
                "You took the default eps of PyTorch; a layer keeps the eps it was trained with.",
                "Only var + eps counts, so with equal variances the eps must be equal.",
                EPS,
            ),
            Mistake(
                (0.01, 0.001, 8.0, 8.0),
                "You rescaled the variance where the predictions were to stay.",
                "Eval mode is a fixed function of the variance: another one is another function.",
                DIVISOR,
            ),
            Mistake(
                (0.01, 0.001, 6.0, 4.5),
                "You divided by m / (m - 1); the unbiased variance is the larger one.",
                "A sum of squares over 3 is more than over 4.",
                DIVISOR,
            ),
            Mistake(
                (0.01, 0.001, 8.0, 6.0),
                "You exchanged the two variances.",
                "To keep the predictions, nothing in eval mode may change.",
                DIVISOR,
            ),
            Mistake(
                (0.01, 0.001, 6.0, 6.0),
                "You copied the variance twice; PyTorch averages the unbiased variance.",
                "With mini-batches of 4 the two differ by the factor 4/3.",
                DIVISOR,
            ),
        ),
        hint="In PyTorch the momentum weighs the new value, and the running variance is unbiased.",
    ),
    Exercise(
        name="absorb",
        page=PAGE,
        asks="absorb(var, eps, fixed) returns a variance of the same shape, nan where none exists",
        solution=absorb,
        cases=variances,
        mistakes=(
            Mistake(
                lambda var, eps, fixed: var + eps - fixed,
                "You return negative variances.",
                "With var = 0.0001 and fixed = 0.001 no variance exists, and nan is asked.",
                EPS,
            ),
            Mistake(
                lambda var, eps, fixed: np.maximum(var + eps - fixed, 0),
                "You clip at 0, which changes the predictions without a word.",
                "With var = 0 the device computes sqrt(0.001) where sqrt(0.00001) is right.",
                EPS,
            ),
            Mistake(
                lambda var, eps, fixed: np.where(var + fixed < eps, np.nan, var + fixed - eps),
                "You moved eps in the wrong direction.",
                "var + eps before must equal var + fixed after.",
                EPS,
            ),
            Mistake(
                lambda var, eps, fixed: var,
                "You copied the variance.",
                "Only var + eps counts, and it changes by fixed - eps.",
                EPS,
            ),
            Mistake(
                lambda var, eps, fixed: np.where(
                    np.sqrt(var) + eps < fixed, np.nan, (np.sqrt(var) + eps - fixed) ** 2
                ),
                "You moved eps outside the root; it is added to the variance.",
                "BN divides by sqrt(var + eps).",
                EPS,
            ),
            Mistake(
                lambda var, eps, fixed: var - fixed,
                "You forgot the eps that the model has itself.",
                "With eps equal to fixed the variance must stay as it is.",
                EPS,
            ),
        ),
        hint="What enters the output is var + eps alone. When is the answer negative?",
    ),
    Exercise(
        name="to-unbiased",
        page=PAGE,
        asks="to_unbiased(var, m, momentum, steps) returns the unbiased running variance, (d,)",
        solution=to_unbiased,
        cases=averages,
        mistakes=(
            Mistake(
                lambda var, m, momentum, steps: m / (m - 1) * var,
                "You rescaled the start too: the 1 it began with has no divisor.",
                "With steps = 0 the result must be 1, the start.",
                DIVISOR,
            ),
            Mistake(
                lambda var, m, momentum, steps: (
                    (1 - momentum) ** steps + m / (m - 1) * (var - (1 - momentum) ** steps)
                ),
                "You gave the start the weight of a new value; Keras's momentum weighs the old.",
                "With momentum = 0.9, after one step 0.9 of the start is left.",
                MOMENTUM,
            ),
            Mistake(
                lambda var, m, momentum, steps: (
                    momentum**steps + (m - 1) / m * (var - momentum**steps)
                ),
                "Your factor is upside down: the unbiased variance is the larger one.",
                "A sum of squares divided by m - 1 is more than divided by m.",
                DIVISOR,
            ),
            Mistake(
                lambda var, m, momentum, steps: m / (m - 1) * (var - momentum**steps),
                "You took the start out and did not put it back.",
                "With steps = 0 the result must be 1, the start.",
                DIVISOR,
            ),
            Mistake(
                lambda var, m, momentum, steps: momentum + m / (m - 1) * (var - momentum),
                "You gave the start the weight that it has after one step.",
                "After t steps it has the weight momentum**t.",
                DIVISOR,
            ),
            Mistake(
                lambda var, m, momentum, steps: var,
                "You copied the variance; that keeps the predictions, but the divisor differs.",
                "For m = 2 and many steps the result must be twice as large.",
                DIVISOR,
            ),
        ),
        hint="Take the rest of the start away, rescale, and add it again.",
    ),
)
