"""Exercises of :doc:`/book/learning_rate_and_convergence`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "learning_rate_and_convergence"
TUNING = "Why: the rate tunes itself"


def equilibrium(lr, decay, G):
    """Solve it: the length of w and the effective rate at the fixed point."""
    squared = lr * G / np.sqrt(1 - (1 - lr * decay) ** 2)
    return np.sqrt(squared), lr / squared


def of_squared_norm(wrong):
    """Return length and effective rate for `wrong(lr, decay, G)` in place of |w|^2."""

    def answer(lr, decay, G):
        squared = wrong(lr, decay, G)
        return np.sqrt(squared), lr / squared

    return answer


def settings(rng):
    """Give rates, decays and gradients with a small product of rate and decay."""
    return [(0.1, 0.01, 3.0), (0.05, 0.004, 0.5), (2.0, 0.0005, 1.5)]


EXERCISES = (
    Exercise(
        name="longer-weights",
        page=PAGE,
        asks="three numbers, the length of w and its effective rate after the step, and the norm "
        "of the gradient at 3 w",
        solution=(2.5, 0.08, 1.0),
        returns=("length", "rate", "gradient"),
        rtol=0.002,
        mistakes=(
            Mistake(
                (2.5, 0.2, 1.0),
                "Your effective rate is eta/|w|; it is eta divided by the squared length.",
                "Weights twice as long have half the gradient, and a step turns them half as much.",
                TUNING,
            ),
            Mistake(
                (2.5, 0.125, 1.0),
                "You gave the effective rate before the step.",
                "After the step the weights are longer: divide by the new squared length.",
                TUNING,
            ),
            Mistake(
                (6.25, 0.08, 1.0),
                "You gave the squared length and forgot the root.",
                "Without a step, eta = 0, the length must be 2 and not 4.",
                TUNING,
            ),
            Mistake(
                (3.5, 0.5 / 3.5**2, 1.0),
                "You added the length of the step to that of w, but the two are orthogonal.",
                "Draw a right angle and use Pythagoras.",
                "The smallest example",
            ),
            Mistake(
                (0.5, 2.0, 1.0),
                "You subtracted the length of the step, as if the gradient pointed along w.",
                "The gradient is orthogonal to w, so no step makes w shorter.",
                "The smallest example",
            ),
            Mistake(
                (1.75**0.5, 0.5 / 1.75, 1.0),
                "You let the weights shrink: the square of the step is added, not subtracted.",
                "The new w is the longest side of a right-angled triangle.",
                "The smallest example",
            ),
            Mistake(
                (8.5**0.5, 0.5 / 8.5, 1.0),
                "You forgot to square the rate.",
                "The step has the length eta |g| = 1.5, and its square is 2.25.",
                TUNING,
            ),
            Mistake(
                (2.5, 0.08, 3.0),
                "You took the same gradient at 3 w, because the loss is the same there.",
                "To change the direction equally, 3 w has to be moved 3 times as far.",
                "The smallest example",
            ),
            Mistake(
                (2.5, 0.08, 9.0),
                "You multiplied the gradient by 3; longer weights have a smaller gradient.",
                "To change the direction equally, 3 w has to be moved 3 times as far.",
                "The smallest example",
            ),
            Mistake(
                (2.5, 0.08, 1 / 3),
                "You divided the gradient by 3^2; that is what happens to the curvature.",
                "Differentiate L(a w) = L(w) with respect to w once: one factor a comes out.",
                TUNING,
            ),
        ),
        hint="w and the gradient are orthogonal, so use Pythagoras for the new length.",
    ),
    Exercise(
        name="equilibrium",
        page=PAGE,
        asks="equilibrium(lr, decay, G) returns the length of w and the effective rate there",
        solution=equilibrium,
        cases=settings,
        returns=("length", "rate"),
        rtol=0.005,
        mistakes=(
            Mistake(
                lambda lr, decay, G: (
                    equilibrium(lr, decay, G)[0] ** 2,
                    equilibrium(lr, decay, G)[1],
                ),
                "Your length is its square.",
                "n is the squared length: take the root of it once more.",
                TUNING,
            ),
            Mistake(
                lambda lr, decay, G: (
                    equilibrium(lr, decay, G)[0],
                    lr / equilibrium(lr, decay, G)[0],
                ),
                "Your effective rate is eta/|w|; it is eta divided by the squared length.",
                "At the fixed point it must be the root of 2 eta lambda, divided by G.",
                TUNING,
            ),
            Mistake(
                of_squared_norm(lambda lr, decay, G: np.sqrt(lr * G**2 / decay)),
                "You lost a factor of 2: (1 - eta lambda)^2 is about 1 - 2 eta lambda.",
                "Put numbers in: (1 - 0.01)^2 = 0.9801.",
                TUNING,
            ),
            Mistake(
                of_squared_norm(lambda lr, decay, G: lr * G**2 / (2 * decay)),
                "You took the gradient g as constant; constant is G = |w| |g|.",
                "Longer weights have smaller gradients: the step adds eta^2 G^2/|w|^2.",
                TUNING,
            ),
            Mistake(
                of_squared_norm(lambda lr, decay, G: np.sqrt(lr**2 * G**2 / (2 * decay))),
                "Your decay shrinks w by the factor 1 - lambda, without the learning rate.",
                "In the step of the exercise w is multiplied by 1 - eta lambda.",
                TUNING,
            ),
            Mistake(
                of_squared_norm(lambda lr, decay, G: np.sqrt(G**2 / (2 * decay))),
                "You forgot the square of the rate in the step that lengthens w.",
                "The squared length of the step is eta^2 |g|^2.",
                TUNING,
            ),
        ),
        hint="At the fixed point a step does not change n. Solve for n^2, or repeat the recursion "
        "until n stands still.",
    ),
    Exercise(
        name="what-layer-norm-keeps",
        page=PAGE,
        asks='one of the words "columns", "rows", "matrix", "all" and "none"',
        solution="matrix",
        mistakes=(
            Mistake(
                "columns",
                "That is so for batch norm, which divides each unit by a number of its own.",
                "Multiply one column of W by 3: layer norm mixes the units, so its output changes.",
                TUNING,
            ),
            Mistake(
                "all",
                "A single column or row is not free in layer norm, only the whole matrix is.",
                "Multiply one column of W by 3: the output changes.",
                TUNING,
            ),
            Mistake(
                "rows",
                "Layer norm works on one example at a time, but a row of W belongs to an input.",
                "Multiply one row of W by 3: that input counts more, and the output changes.",
                TUNING,
            ),
            Mistake(
                "none",
                "Layer norm, too, divides by a standard deviation, so a common factor drops out.",
                "Multiply all of W by 3: the output stays, as batch norm's does.",
                TUNING,
            ),
        ),
        hint="A part of W is orthogonal to its gradient if a factor before it changes nothing.",
    ),
)
